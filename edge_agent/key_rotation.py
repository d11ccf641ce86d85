"""How a gateway's key is replaced by itself, step by step. PURE.

    IDLE --due--> ASKING --given--> TRYING --connected--> CONFIRMING --confirmed--> IDLE

What is on disk says where it stands after any crash (`phase_of`): a request that was begun (`asked`), a new key
beside the present one. The old key is dropped only after the hub's broker took the new one and the hub said, asked
with the new one, that it saw it: from then on the hub does not take it back. Until then both are kept, and whichever
is refused, the other is tried. The shell saves first, then does what is demanded; every effect may be repeated.
"""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where the rotation stands."""

    IDLE = "idle"
    ASKING = "asking"  # a request is begun: its Idempotency-Key is on disk
    TRYING = "trying"  # a new key is on disk beside the old one
    CONFIRMING = "confirming"  # the broker took the new key


class Event(StrEnum):
    """What happens."""

    DUE = "due"  # the hub, or a person, wants a new key
    GIVEN = "given"  # the hub gave one
    DECLINED = "declined"  # the hub gives none
    CONNECTED = "connected"  # the broker took the new key
    REFUSED = "refused"  # the broker did not take the new key
    CONFIRMED = "confirmed"  # the hub saw the new key in use
    WITHDRAWN = "withdrawn"  # the hub says that the new key is none (any longer)


class Effect(StrEnum):
    """What is to be done."""

    ASK = "ask"  # the hub, with the old key and the request's Idempotency-Key, for a new one
    CONNECT = "connect"  # with the new key
    CONFIRM = "confirm"  # ask the hub with the new key


class Save(StrEnum):
    """What is written before anything else is done."""

    NOTHING = "nothing"
    REQUEST = "request"  # a fresh Idempotency-Key
    NEW_KEY = "new key"  # beside the old one; the request is over
    NO_REQUEST = "no request"
    PROMOTE = "promote"  # the new key takes the old one's place
    NO_NEW_KEY = "no new key"


TABLE: dict[tuple[Phase, Event], tuple[Phase, Save]] = {
    (Phase.IDLE, Event.DUE): (Phase.ASKING, Save.REQUEST),
    (Phase.ASKING, Event.DUE): (Phase.ASKING, Save.NOTHING),
    (Phase.ASKING, Event.GIVEN): (Phase.TRYING, Save.NEW_KEY),
    (Phase.ASKING, Event.DECLINED): (Phase.IDLE, Save.NO_REQUEST),
    (Phase.TRYING, Event.DUE): (Phase.TRYING, Save.NOTHING),
    (Phase.TRYING, Event.CONNECTED): (Phase.CONFIRMING, Save.NOTHING),
    (Phase.TRYING, Event.REFUSED): (Phase.TRYING, Save.NOTHING),
    (Phase.TRYING, Event.WITHDRAWN): (Phase.IDLE, Save.NO_NEW_KEY),
    (Phase.CONFIRMING, Event.DUE): (Phase.CONFIRMING, Save.NOTHING),
    (Phase.CONFIRMING, Event.CONNECTED): (Phase.CONFIRMING, Save.NOTHING),
    (Phase.CONFIRMING, Event.REFUSED): (Phase.TRYING, Save.NOTHING),
    (Phase.CONFIRMING, Event.CONFIRMED): (Phase.IDLE, Save.PROMOTE),
}
"""Every legal move; any other event changes nothing."""

_DEMANDS = {Phase.ASKING: Effect.ASK, Phase.TRYING: Effect.CONNECT, Phase.CONFIRMING: Effect.CONFIRM}


@dataclass(frozen=True, slots=True)
class Rotation:
    """`refused`: the new key was refused at the last attempt, so the old one is tried next."""

    phase: Phase = Phase.IDLE
    refused: bool = False

    @property
    def uses_new(self) -> bool:
        """Whether the next connection is made with the new key."""
        return self.phase is Phase.CONFIRMING or (self.phase is Phase.TRYING and not self.refused)


def phase_of(*, asked: bool, has_new: bool) -> Phase:
    """Where the rotation stands, by what is on disk."""
    if has_new:
        return Phase.TRYING
    return Phase.ASKING if asked else Phase.IDLE


def step(state: Rotation, event: Event) -> tuple[Rotation, Save]:
    """The state after the event, and what is saved before it counts."""
    found = TABLE.get((state.phase, event))
    if found is None:
        return state, Save.NOTHING
    phase, save = found
    return Rotation(phase, refused=event is Event.REFUSED or (state.refused and phase is state.phase)), save


def retried(state: Rotation) -> Rotation:
    """The old key was refused, or worked for a while: the new one's turn again."""
    return Rotation(state.phase)


def demand(state: Rotation) -> Effect | None:
    """What is to be done next."""
    return _DEMANDS.get(state.phase)
