"""What must hold for a figure to mean what its name says. PURE; each raises Permanent where it does not."""

from shared.errors import Permanent

LEAST_SHARE = 0.98


def rate_held(taken: int, rate: float, seconds: float) -> None:
    """A latency "at 1,000 messages/s" is none if fewer were taken."""
    due = rate * seconds
    if taken < LEAST_SHARE * due:
        raise Permanent(f"{taken:,} messages were taken of the {due:,.0f} that {rate:,.0f}/s for {seconds:g} s are")


def per_reading(bytes_counted: int, readings: int, of: str) -> float:
    """Bytes a reading. Nothing counted is no figure: below a tmpfs no process writes to a disk."""
    if bytes_counted <= 0 or readings <= 0:
        raise Permanent(f"{of}: {bytes_counted} bytes for {readings} readings", hint="is the directory on a disk?")
    return bytes_counted / readings
