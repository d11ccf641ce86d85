from collections import Counter

import pytest

from deploy.chaos.__main__ import settings
from deploy.chaos.matrix import Victim, disorder, matrix
from deploy.demo.judge import Visible
from shared.errors import Permanent


def visible(n, device="d", lane="live"):
    return Visible(device, n, f"{device}:{n}", lane, False, 0)


def test_each_victim_is_killed_as_often_in_an_order_that_the_seed_decides():
    kills = matrix([Victim.AGENT, Victim.KAFKA], 5, 1, least_s=1.0, most_s=2.0)
    assert Counter(kill.victim for kill in kills) == {Victim.AGENT: 5, Victim.KAFKA: 5}
    assert all(1.0 <= kill.after_s <= 2.0 for kill in kills)
    assert kills == matrix([Victim.AGENT, Victim.KAFKA], 5, 1, least_s=1.0, most_s=2.0)
    assert kills != matrix([Victim.AGENT, Victim.KAFKA], 5, 2, least_s=1.0, most_s=2.0)


def test_order_is_judged_by_device_and_lane():
    assert disorder([visible(1), visible(2), visible(1, "e"), visible(1, lane="replay"), visible(3)]) == 0
    assert disorder([visible(2), visible(1)]) == 1
    assert disorder([visible(5), visible(1), visible(2), visible(6)]) == 2
    assert disorder([visible(None), visible(1), visible(None)]) == 0


def test_settings_have_defaults_and_say_what_there_is():
    times, _, victims = settings({})
    assert times == 10
    assert victims == list(Victim)
    assert settings({"TIMES": "1", "SEED": "5", "VICTIMS": "agent,kafka"}) == (1, 5, [Victim.AGENT, Victim.KAFKA])
    with pytest.raises(Permanent, match="normalizer"):
        settings({"VICTIMS": "moon"})
    with pytest.raises(Permanent):
        settings({"TIMES": "0"})
