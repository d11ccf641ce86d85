import pytest

from deploy.demo.run import settings
from shared.errors import Permanent


def test_settings_have_defaults_and_are_read():
    assert settings({})[0] == 60
    assert settings({"DEMO_SECONDS": "", "DEMO_SEED": ""})[0] == 60
    assert settings({"DEMO_SECONDS": "45.5", "DEMO_SEED": "7"}) == (45.5, 7)


@pytest.mark.parametrize("env", [{"DEMO_SECONDS": "soon"}, {"DEMO_SEED": "x"}, {"DEMO_SEED": "1.5"}])
def test_what_is_no_number_is_refused(env):
    with pytest.raises(Permanent, match="DEMO_SECONDS and DEMO_SEED are numbers"):
        settings(env)


@pytest.mark.parametrize("seconds", ["29.9", "1201", "nan", "inf", "-60"])
def test_a_length_that_cannot_be_is_refused_with_what_can(seconds):
    with pytest.raises(Permanent, match=r"from 30 to 1200"):
        settings({"DEMO_SECONDS": seconds})
