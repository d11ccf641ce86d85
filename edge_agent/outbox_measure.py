"""How the outbox stands now, as an event."""

from edge_agent.outbox import Outbox
from edge_agent.uplink_events import OutboxMeasured, lines
from edge_agent.uplink_state import State
from shared.clock import Clock


def measure(outbox: Outbox, state: State, clock: Clock) -> OutboxMeasured:
    """Rows, ledger, bytes, and the age of the oldest row that waits. Raises what reading the outbox raises."""
    return OutboxMeasured(
        ledger=lines(state.ledger),
        at_most=state.ledger.doubt[1],
        oldest_s=_oldest_s(outbox, state, clock),
        used_bytes=outbox.used_bytes(),
        batches=len(state.batches),
        window=0 if state.link is None else state.link.window,
    )


def _oldest_s(outbox: Outbox, state: State, clock: Clock) -> float:
    firsts = [span[0] for span in state.waiting[:1]] + [batch.span[0] for batch in state.batches.values()]
    found = outbox.rows((min(firsts), state.tail), 1) if firsts else []
    if not found:
        return 0.0
    row = found[0]
    # Within one boot the clock that cannot be set tells the age.
    same_boot = row.boot_id == clock.boot_id()
    age_ms = clock.boot_ms() - row.boot_ms if same_boot else clock.wall_ms() - row.wall_ms
    return max(0, age_ms) / 1_000
