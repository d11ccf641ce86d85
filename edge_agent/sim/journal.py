"""What the simulator did, on disk: `sent.jsonl` (each message and its acknowledgement) and `faults.jsonl`.

One JSON object a line. A message's line is written when its broker answered, or at the end if it never did
(`code` null); the faults are those that came to pass. So both files are complete when the run is over.
"""

from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from edge_agent.sim.device import Kind, Message
from edge_agent.sim.faults import Episode, Fault


class SentLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. `sent_ms`: first handed to the connection; `code`: the PUBACK's reason, null if none came.

    `sha256` of the payload stands only where the payload cannot be read back as a reading.
    """

    device: str
    n: int
    kind: Kind
    sent_ms: int
    code: int | None
    acked_ms: int | None = None
    sha256: str | None = None


class FaultLine(msgspec.Struct, frozen=True):
    """One fault, epoch milliseconds."""

    device: str
    fault: Fault
    metric: str
    start_ms: int
    end_ms: int
    size: float


class Journal:
    """The two files below `folder`. A context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._sent: IO[bytes] = (folder / "sent.jsonl").open("wb")
        self._faults = folder / "faults.jsonl"

    def sent(self, device: str, message: Message, sent_ms: int, code: int | None, acked_ms: int | None) -> None:
        """Write one message's line."""
        digest = message.sha256 if message.kind is Kind.MALFORMED else None
        line = SentLine(device, message.n, message.kind, sent_ms, code, acked_ms, digest)
        self._sent.write(msgspec.json.encode(line) + b"\n")

    def faults(self, episodes: list[Episode], started_ms: int) -> None:
        """Write every fault's line."""
        lines = [
            FaultLine(e.device, e.fault, e.metric, _ms(started_ms, e.start_s), _ms(started_ms, e.end_s), e.size)
            for e in episodes
        ]
        self._faults.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sent.close()


def _ms(started_ms: int, after_s: float) -> int:
    return started_ms + int(after_s * 1_000)


def read_sent(folder: Path) -> list[SentLine]:
    """Every message of a run."""
    return [msgspec.json.decode(line, type=SentLine) for line in (folder / "sent.jsonl").read_bytes().splitlines()]


def read_faults(folder: Path) -> list[FaultLine]:
    """Every fault of a run."""
    return [msgspec.json.decode(line, type=FaultLine) for line in (folder / "faults.jsonl").read_bytes().splitlines()]
