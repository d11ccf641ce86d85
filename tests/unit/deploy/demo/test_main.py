import asyncio
import json

import pytest

from deploy.demo import __main__ as program
from deploy.demo.judge import Count
from shared.errors import Transient

GOOD = Count(1_000, 1_000, 0, 0, 0, 0, 0, 6, 24, 22, 0, 50.0, 900.0, None)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the program on a demo that ends as it is told; its status and the last line of standard output."""

    def run(outcome, idle_s=0.0, **environment):
        async def demo(seconds, seed, progress, when_done):
            if isinstance(outcome, BaseException):
                raise outcome
            await when_done(None)
            await asyncio.sleep(idle_s)
            return outcome, {"quarantined": 1, "refused": 7, "rotations": 1, "rotation_failures": 0}

        monkeypatch.setattr(program, "demo", demo)
        for name in ("DEMO_SECONDS", "DEMO_SEED"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status = program.main()
        return status, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_a_good_run_ends_with_its_figures(run):
    status, said = run(GOOD, DEMO_SEED="5")
    assert status == 0
    assert (said["accepted"], said["lost"], said["health"], said["seed"]) == (1_000, 0, 6, 5)
    assert (said["quarantined"], said["refused"]) == (1, 7)
    assert (said["rotations"], said["rotation_failures"]) == (1, 0)


def test_seconds_do_not_count_what_was_served_after_the_drain(run):
    _, said = run(GOOD, idle_s=0.3)
    assert said["seconds"] < 0.3


@pytest.mark.parametrize(("end", "status"), [(Transient("Kafka is away"), 1), (KeyboardInterrupt(), 130)])
def test_a_run_that_came_to_nothing_still_ends_with_one_object(run, end, status):
    assert run(end) == (status, {"error": str(end) or "stopped"})


def test_wrong_settings_are_said_in_the_last_line_too(run):
    status, said = run(GOOD, DEMO_SECONDS="soon")
    assert status == 2
    assert "DEMO_SECONDS" in said["error"]


def test_a_broken_promise_is_the_exit_status(run):
    status, said = run(Count(1_000, 999, 0, 1, 0, 0, 0, 6, 24, 22, 0, 50.0, 900.0, None))
    assert (status, said["lost"]) == (1, 1)
