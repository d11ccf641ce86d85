"""What DESIGN says of the normaliser's side of the batch protocol, and no more: the judge of the model test.

It is written from the text alone, shares no code with the real normaliser or the agent, and never forgets.
"""

from dataclasses import dataclass, field

from shared import limits
from shared.batch import Header


@dataclass
class Epoch:
    floor: int = 1
    seen: set[int] = field(default_factory=set)
    void: set[int] = field(default_factory=set)
    closed: bool = False

    def has(self, number: int) -> bool:
        return number < self.floor or number in self.seen


@dataclass
class Normaliser:
    """One gateway's state, and what came out: records in order with their lane, gaps, damaged numbers, repeats."""

    lists_of_repeats: bool = True  # the text leaves open whether a repeat's header is read: both must do
    copies: bool = False  # old copies of the outbox are put back in this world
    epochs: dict[str, Epoch] = field(default_factory=dict)
    output: list[tuple[bytes, str]] = field(default_factory=list)
    gaps: list[tuple[str, int]] = field(default_factory=list)
    damaged: list[tuple[str, int]] = field(default_factory=list)
    repeats: int = 0

    def take(self, header: Header, records: list[bytes]) -> None:
        assert 1 <= header.floor <= header.number < header.floor + limits.WINDOW_NUMBERS, "rejected: protocol"
        assert len(header.closed) <= limits.CLOSED_EPOCHS, "rejected: protocol"
        state = self.epochs.setdefault(header.epoch, Epoch())
        if state.closed or state.has(header.number):
            self.repeats += 1
            if not self.lists_of_repeats:
                return
        else:
            state.seen.add(header.number)
            self.output += [(record, header.lane.value) for record in records]
        if not state.closed:
            self._raise_floor(header.epoch, state, header.floor)
        for name, first, last in header.void:
            self.epochs.setdefault(name, Epoch()).void.update(range(first, last + 1))
        for name, last in header.closed:
            closing = self.epochs.setdefault(name, Epoch())
            if not closing.closed:
                # A copy put back within the same start knows only the numbers of its time.
                assert self.copies or last >= max(closing.seen, default=0), "closed below what was seen"
                self._raise_floor(name, closing, last + 1)
                closing.closed = True

    def _raise_floor(self, name: str, state: Epoch, floor: int) -> None:
        for number in range(state.floor, floor):
            if number not in state.seen:
                (self.damaged if number in state.void else self.gaps).append((name, number))
        state.floor = max(state.floor, floor)
