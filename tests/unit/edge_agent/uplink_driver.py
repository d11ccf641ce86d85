"""Drives the uplink's core without a store: rows are numbers, a demanded batch takes them all."""

from dataclasses import replace

from edge_agent.row import CLASSES, RowClass, count
from edge_agent.uplink import demand, step
from edge_agent.uplink_state import (
    Acked,
    Appended,
    Batch,
    Connected,
    Disconnected,
    Form,
    Formed,
    Free,
    Freed,
    Happening,
    Limits,
    OldEpoch,
    Refused,
    Saved,
    Send,
    Sent,
    State,
    Tick,
    Unheard,
    restore,
)
from shared.batch import Lane
from shared.ids import Epoch

E, OLD, OLDER = Epoch("E" * 22), Epoch("O" * 22), Epoch("P" * 22)
LIMITS = Limits(replay_start_s=0.0)


def batch(epoch: Epoch, number: int, first: int, last: int, lane: Lane = Lane.LIVE) -> Batch:
    return Batch(epoch, number, lane, (first, last), counts(last - first + 1), 100)


def counts(rows: int, cls: RowClass = RowClass.TELEMETRY):
    return tuple(rows if one is cls else 0 for one in CLASSES)


def as_heard(state: State) -> State:
    """As if the hub had acknowledged something in this connection."""
    assert state.link is not None
    return replace(state, link=replace(state.link, heard=True))


class Driver:
    """`sent` is what was published over all connections, as (epoch, number)."""

    def __init__(self, saved: Saved | None = None, limits: Limits = LIMITS) -> None:
        self.state: State = restore(saved or Saved(), E, limits, now=100.0)
        self.sends: list[Send] = []
        self.frees: list[Free] = []
        self.chance = 0.5
        self.batch_bytes = 100

    @property
    def sent(self):
        return [send.batch.key for send in self.sends]

    def tell(self, happening: Happening) -> None:
        self.state = step(self.state, happening)

    def rows(self, many: int, alarm: bool = False) -> None:
        tally = count([RowClass.ALARM if alarm else RowClass.TELEMETRY] * many)
        last = self.state.tail + many
        self.tell(Appended(last, tally, last if alarm else 0))

    def connect(self, *, heard: bool = True) -> None:
        """`heard`: as if the hub had acknowledged something in this connection already."""
        self.tell(Connected(self.state.now, self.chance))
        if heard:
            self.state = as_heard(self.state)

    def reconnect(self, *, heard: bool = True) -> None:
        self.tell(Disconnected())
        self.connect(heard=heard)

    def later(self, seconds: float) -> None:
        self.tell(Tick(self.state.now + seconds))

    def ack(self, *numbers: int, epoch: Epoch = E) -> None:
        self.tell(Acked(tuple((epoch, number) for number in numbers)))

    def ack_all(self) -> None:
        self.tell(Acked(tuple(self.state.batches)))

    def refuse(self, number: int) -> None:
        self.tell(Refused((E, number), self.chance))

    def unheard(self, number: int) -> None:
        self.tell(Unheard((E, number), self.chance))

    def run(self, most: int = 10_000) -> list[Send]:
        """Do all that is demanded; the sends of this run."""
        made: list[Send] = []
        for _ in range(most):
            effect = demand(self.state)
            if effect is None:
                break
            if isinstance(effect, Form):
                self.form(effect)
            elif isinstance(effect, Send):
                made.append(effect)
                self.tell(Sent(effect, self.chance))
            else:
                self.frees.append(effect)
                self.tell(Freed(effect))
        self.sends += made
        return made

    def form(self, form: Form) -> None:
        last = min(form.span[1], form.span[0] + form.records - 1)
        span = (form.span[0], last)
        tally = counts(last - form.span[0] + 1)
        self.tell(Formed(Batch(form.epoch, form.number, form.lane, span, tally, self.batch_bytes)))


def numbers(sends: list[Send]) -> list[int]:
    return [send.batch.number for send in sends]


__all__ = ["E", "LIMITS", "OLD", "OLDER", "Driver", "OldEpoch", "Saved", "as_heard", "batch", "counts", "numbers"]
