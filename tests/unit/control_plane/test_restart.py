"""When a service is started again: every legal move, the delays, and that no other move exists."""

import pytest

from control_plane.restart import (
    FIRST_S,
    LONGEST_S,
    MISCONFIGURED,
    STEADY_S,
    Died,
    Event,
    NotStarted,
    Phase,
    Service,
    Start,
    Started,
    Stop,
    Terminate,
    delay_s,
    demand,
    step,
)

WAITING, RUNNING, STOPPING, ENDED = (Service(phase) for phase in Phase)


@pytest.mark.parametrize(
    ("service", "event", "phase"),
    [
        (WAITING, Started(1.0), Phase.RUNNING),
        (WAITING, NotStarted(1.0), Phase.WAITING),
        (RUNNING, Died(1.0, 1), Phase.WAITING),
        (RUNNING, Died(1.0, MISCONFIGURED), Phase.ENDED),
        (STOPPING, Died(1.0, 0), Phase.ENDED),
        (WAITING, Stop(), Phase.ENDED),
        (RUNNING, Stop(), Phase.STOPPING),
        (STOPPING, Stop(), Phase.STOPPING),
        (ENDED, Stop(), Phase.ENDED),
    ],
)
def test_moves(service: Service, event: Event, phase: Phase) -> None:
    assert step(service, event).phase is phase


@pytest.mark.parametrize(
    ("service", "event"),
    [
        (RUNNING, Started(1.0)),
        (STOPPING, Started(1.0)),
        (ENDED, Started(1.0)),
        (RUNNING, NotStarted(1.0)),
        (STOPPING, NotStarted(1.0)),
        (WAITING, Died(1.0, 0)),
        (ENDED, Died(1.0, 0)),
    ],
)
def test_other_moves_are_our_bugs(service: Service, event: Event) -> None:
    with pytest.raises(AssertionError):
        step(service, event)


def test_what_each_phase_demands() -> None:
    assert demand(Service(Phase.WAITING, 7.0)) == Start(7.0)
    assert demand(RUNNING) is None
    assert demand(STOPPING) == Terminate()
    assert demand(ENDED) is None


def die(service: Service, ran_s: float, status: int = 1) -> Service:
    """It is started as soon as it may be, and dies `ran_s` later."""
    running = step(service, Started(service.at_s))
    return step(running, Died(running.at_s + ran_s, status))


def test_a_service_is_unfit_only_if_its_first_start_found_the_configuration_wrong() -> None:
    assert die(Service(), 0.0, MISCONFIGURED).unfit
    assert not die(Service(), 0.0, -9).unfit
    later = die(die(Service(), 0.0), 0.0, MISCONFIGURED)  # a file altered beneath a running hub: others work on
    assert (later.phase, later.unfit) == (Phase.WAITING, False)
    assert not step(STOPPING, Died(1.0, MISCONFIGURED)).unfit


def test_delays_double_up_to_their_bound() -> None:
    service, delays = Service(), []
    for _ in range(20):
        before = service.at_s
        service = die(service, 0.0)
        delays.append(service.at_s - before)
    assert delays[:4] == pytest.approx([FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S])
    assert max(delays) <= LONGEST_S + 1e-9
    assert service.restarts == 20


def test_one_that_cannot_be_started_is_tried_as_slowly_and_counts_as_no_restart() -> None:
    service, delays = Service(), []
    for _ in range(20):
        before = service.at_s
        service = step(service, NotStarted(before))
        delays.append(service.at_s - before)
    assert delays[:3] == pytest.approx([FIRST_S, 2 * FIRST_S, 4 * FIRST_S])
    assert max(delays) <= LONGEST_S + 1e-9
    assert service.restarts == 0


def test_one_that_ran_for_a_while_starts_over() -> None:
    service = Service()
    for _ in range(10):
        service = die(service, 0.0)
    at_s = service.at_s
    service = die(service, STEADY_S + 1.0)
    assert service.at_s == pytest.approx(at_s + STEADY_S + 1.0 + FIRST_S)
    assert service.restarts == 11


def test_any_number_of_deaths_has_a_delay() -> None:
    assert delay_s(10_000) == LONGEST_S
