"""The model's outbox as a real SQLite file."""

import random
import shutil
from pathlib import Path

from edge_agent.outbox import Outbox
from edge_agent.row import Counts, Row
from edge_agent.uplink_state import Batch, Free
from shared.errors import Transient
from tests.model.batch_world import Crash
from tests.unit.edge_agent.outbox_files import new_file


class SqliteDisk(Outbox):
    """An `Outbox` that can be crashed in the middle of a write, copied, and put back."""

    fail_at: int | None = None
    full: bool = False

    def __init__(self, directory: Path) -> None:
        super().__init__(new_file(directory / "outbox.db"))
        self._copies = 0

    def _write(self) -> None:
        if self.full:
            raise Transient("full")
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at <= 0:
                # As after SIGKILL: the connection goes without a word, and a new process opens the file.
                self.close()
                Outbox.__init__(self, self.path)
                raise Crash

    def append(self, after, rows: list[Row], identities, accepted: Counts) -> None:
        super().append(after, rows, identities, accepted)
        self._write()

    def save_batch(self, batch: Batch) -> None:
        super().save_batch(batch)
        self._write()

    def free(self, free: Free, tail: int) -> None:
        super().free(free, tail)
        self._write()

    def dissolve(self) -> None:
        with self.transaction():
            super().dissolve()

    def row_names(self) -> set[bytes]:
        return {record for _, _, record in self.read((1, 10**9), 10**9)}

    def copy(self) -> object:
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._copies += 1
        copy = self.path.with_name(f"copy-{self._copies}")
        shutil.copyfile(self.path, copy)
        return copy

    def put_back(self, copy: object) -> None:
        assert isinstance(copy, Path)
        self.close()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(copy, self.path)
        Outbox.__init__(self, self.path)

    def harm(self, choose: random.Random) -> tuple[set[bytes], set[bytes]]:
        raise AssertionError("real damage has tests of its own")
