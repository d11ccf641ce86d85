"""The rotation of a gateway's key by itself: its table, and a crash after every save of any run."""

from itertools import product

import pytest

from edge_agent.key_rotation import (
    TABLE,
    Effect,
    Event,
    Phase,
    Rotation,
    Save,
    demand,
    phase_of,
    retried,
    step,
)


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)))
def test_what_is_not_in_the_table_changes_nothing(phase: Phase, event: Event) -> None:
    state = Rotation(phase)
    after, save = step(state, event)
    assert (after.phase, save) == TABLE.get((phase, event), (phase, Save.NOTHING))


def test_a_rotation_from_its_beginning_to_its_end() -> None:
    state, saves = Rotation(), []
    for event in (Event.DUE, Event.GIVEN, Event.CONNECTED, Event.CONFIRMED):
        state, save = step(state, event)
        saves.append(save)
    assert saves == [Save.REQUEST, Save.NEW_KEY, Save.NOTHING, Save.PROMOTE]
    assert (state, demand(state)) == (Rotation(), None)


def test_a_refused_new_key_gives_the_old_one_its_turn_and_comes_again() -> None:
    trying = Rotation(Phase.TRYING)
    assert trying.uses_new
    refused, save = step(trying, Event.REFUSED)
    assert (refused.uses_new, save) == (False, Save.NOTHING), "it is not dropped for that"
    assert retried(refused).uses_new
    assert step(refused, Event.WITHDRAWN) == (Rotation(), Save.NO_NEW_KEY)


def test_a_key_that_the_broker_took_once_is_never_withdrawn() -> None:
    confirming = Rotation(Phase.CONFIRMING)
    assert step(confirming, Event.WITHDRAWN) == (confirming, Save.NOTHING)
    back, _ = step(confirming, Event.REFUSED)
    assert back.phase is Phase.TRYING, "such as after a broker came back from an old file"


class Disk:
    """What a crash leaves: the keys and the request, changed by saves alone."""

    def __init__(self) -> None:
        self.keys = ["old"]
        self.asked = False

    def save(self, save: Save) -> None:
        if save is Save.REQUEST:
            self.asked = True
        elif save is Save.NEW_KEY:
            self.keys, self.asked = ["old", "new"], False
        elif save is Save.NO_REQUEST:
            self.asked = False
        elif save is Save.PROMOTE:
            self.keys = ["new"]
        elif save is Save.NO_NEW_KEY:
            self.keys = ["old"]

    def start(self) -> Rotation:
        return Rotation(phase_of(asked=self.asked, has_new=len(self.keys) > 1))


@pytest.mark.parametrize("crashes", list(product([False, True], repeat=5)))
def test_crashes_at_any_steps_delay_it_and_the_hub_takes_a_key_that_is_there(crashes: tuple[bool, ...]) -> None:
    """The hub: the old key lives until the new one was confirmed, the new one from when it was given."""
    disk, living = Disk(), {"old"}
    state = disk.start()
    state, save = step(state, Event.DUE)
    disk.save(save)
    left = list(crashes)
    for _ in range(20):
        assert living & set(disk.keys), (living, disk.keys)
        effect = demand(state)
        if effect is None:
            break
        if effect is Effect.ASK:
            living.add("new")
        crash_before_saving = left.pop(0) if left else False
        event = {Effect.ASK: Event.GIVEN, Effect.CONNECT: Event.CONNECTED, Effect.CONFIRM: Event.CONFIRMED}[effect]
        if effect is Effect.CONFIRM:
            living.discard("old")  # the grace may be over before the agent wrote anything
        if crash_before_saving:
            state = disk.start()
            continue
        state, save = step(state, event)
        disk.save(save)
    assert disk.keys == ["new"]
