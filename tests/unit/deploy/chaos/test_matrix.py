from collections import Counter

from deploy.chaos.matrix import Stored, Victim, disorder, matrix, stored
from deploy.demo.judge import Visible


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


def test_each_service_and_server_has_its_turn():
    from control_plane.supervisor import SERVICES

    assert set(SERVICES) <= {victim.value for victim in Victim}


def test_the_table_holds_each_reading_once_or_it_is_said_how_not():
    seen = [visible(1), visible(2), visible(None, "gw")]
    assert stored({("d", 1): 1, ("d", 2): 1}, seen).agrees
    assert stored({("d", 1): 3, ("d", 9): 1}, seen) == Stored(missing=1, again=2, unknown=1)
    assert not stored({}, seen).agrees
