import pytest

from control_plane.analytics.job_config import JobConfig
from shared.config import ConfigError, load

LEAST = {"HUB_KAFKA_BOOTSTRAP": "127.0.0.1:9", "HUB_DATA_DIR": "/nowhere"}


def test_what_stands_alone_is_enough():
    made = load(JobConfig, LEAST)
    assert (made.instance, made.health_host, made.health_port) == ("0", "127.0.0.1", 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"HUB_ANALYTICS_INSTANCE": "a/b"},
        {"HUB_ANALYTICS_INSTANCE": ""},
        {"HUB_ANALYTICS_COMMIT_MS": "5"},
        {"HUB_ANALYTICS_COMMIT_MS": "9999"},
    ],
)
def test_values_out_of_bounds_are_refused(wrong):
    with pytest.raises(ConfigError) as error:
        load(JobConfig, LEAST | wrong)
    assert next(iter(wrong)) in str(error.value)
