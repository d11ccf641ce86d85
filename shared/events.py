"""One object per thing that happens: emitting it writes the log line and moves its metrics.

Services declare their events as frozen dataclasses below `Event`, beside the metrics that they move, and say
nothing by any other way. Fields are counts, reasons, pseudonyms and sizes; never a device id, key or serial.

A log line is one JSON object on standard error: `at`, `level`, `event` (snake case of the
class's name) and the fields.
"""

import dataclasses
import logging
import re
import sys
import time
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from shared.envelope import rfc3339

_LOGGER = logging.getLogger("events")
_ENCODER = msgspec.json.Encoder(enc_hook=str)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. Subclasses add fields, choose LEVEL, and override `measure`."""

    LEVEL: ClassVar[int] = logging.INFO

    def measure(self) -> None:
        """Move this event's metrics; does nothing where it has none."""

    def emit(self) -> None:
        """Count it and, if its level is on, log it."""
        self.measure()
        if _LOGGER.isEnabledFor(self.LEVEL):
            _LOGGER.log(self.LEVEL, _name(type(self)), extra={"event_fields": _fields(self)})


class JsonFormatter(logging.Formatter):
    """Log records as one JSON object a line; foreign libraries' records keep their message under `message`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": rfc3339(time.time_ns() // 1_000_000),
            "level": record.levelname.lower(),
        }
        fields = getattr(record, "event_fields", None)
        if fields is None:
            line |= {"event": "library", "logger": record.name, "message": record.getMessage()}
        else:
            line |= {"event": record.msg, **fields}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _ENCODER.encode(line).decode()


def configure_logging(level: str = "INFO") -> None:
    """Send all logging to standard error in our form. Libraries speak from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level.upper())


def _fields(event: Event) -> dict[str, object]:
    return {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}


_NAMES: dict[type, str] = {}


def _name(cls: type) -> str:
    if cls not in _NAMES:
        _NAMES[cls] = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    return _NAMES[cls]
