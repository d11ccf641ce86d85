import logging

from control_plane.analytics.job_events import HealthListening, JobFailed, JobStarted, JobStopped


def test_only_a_failure_is_an_error():
    events = [HealthListening("normalizer", 1), JobStarted("j", "0", "t"), JobStopped("j"), JobFailed("j", "why")]
    assert [event.LEVEL for event in events] == [logging.INFO] * 3 + [logging.ERROR]
    for event in events:
        event.emit()
