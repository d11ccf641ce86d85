"""The settings of the outbox and its writer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.row import RowClass
from edge_agent.uplink_state import Limits
from shared import limits


@dataclass(frozen=True, slots=True)
class Settings:
    """The outbox's settings.

    Below `free_floor_bytes` on its disk, or above `budget_bytes`, no rows are accepted. `reserve_bytes` lie in a file
    beside it and are given up when even forming and freeing find no space: enough for SQLite's log (4 MiB and one
    transaction) and for moving it into the file. `expire_after_s`: per class; rows of the others never expire.
    """

    path: Path
    budget_bytes: int = 1024 * limits.MIB
    commit_every_s: float = 0.02
    commit_rows: int = 1_000
    free_floor_bytes: int = 64 * limits.MIB
    reserve_bytes: int = 16 * limits.MIB
    pending_bytes: int = 64 * limits.MIB
    expire_after_s: Mapping[RowClass, float] = field(default_factory=dict)
    uplink: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        assert self.uplink.window_bytes * 4 <= self.budget_bytes, "a window of at most a quarter of the budget"
