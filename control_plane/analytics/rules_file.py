"""The inventory rules' file, read again when it changes.

Promises: the rules in force always come from one whole, faultless file; a file with mistakes changes nothing, is said
once, and shows in a metric as long as it is there. Looking costs one `stat` in REFRESH_S.
"""

from pathlib import Path

from control_plane.analytics.forwarder_events import RulesLoaded, RulesUnfit
from control_plane.analytics.rules import NO_RULES, Rules, parse
from shared.clock import Clock
from shared.config import ConfigError
from shared.limits import MIB

REFRESH_S = 10.0
LARGEST_BYTES = 4 * MIB

_Seen = tuple[int, int, int]  # when it was changed, size, inode
_GONE: _Seen = (0, 0, 0)


class RulesFile:
    """The rules of `path`; none if it is None. TOML, or JSON if it is called *.json.

    Raises ConfigError with every mistake if the file is unfit from the beginning.
    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._rules: Rules = NO_RULES
        self._seen: _Seen | None = None
        self._look_at_s = 0.0
        if path is not None:
            mistakes = self._read(path)
            if mistakes:
                raise ConfigError([f"{path}: {mistake}" for mistake in mistakes])

    def rules(self) -> Rules:
        """The rules in force."""
        if self._path is not None and self._clock.monotonic_s() >= self._look_at_s:
            mistakes = self._read(self._path)
            if mistakes:
                RulesUnfit(mistakes[:20]).emit()
        return self._rules

    def _read(self, path: Path) -> list[str]:
        """Take the file's rules if it changed; its mistakes, if it has any and they were not said yet."""
        self._look_at_s = self._clock.monotonic_s() + REFRESH_S
        try:
            stat = path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            seen = _GONE
        if seen == self._seen:
            return []
        self._seen = seen
        if seen[1] > LARGEST_BYTES:
            return [f"is larger than {LARGEST_BYTES} bytes"]
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            return [f"cannot be read ({type(error).__name__})"]
        found = parse(text, is_json=path.suffix == ".json")
        if isinstance(found, list):
            return found
        self._rules = found
        RulesLoaded(sum(map(len, found.values()))).emit()
        return []
