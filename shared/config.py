"""Configuration: one frozen dataclass per program, from environment and TOML, all mistakes reported at once.

    @dataclass(frozen=True, slots=True)
    class AgentConfig:
        mqtt_url: str = setting("HUB_MQTT_URL", "the hub's broker, mqtt://host:port")
        commit_every_ms: int = setting("AGENT_COMMIT_EVERY_MS", "group commit", default=50)

The environment wins over the file, whose keys are the fields' names. A class may have `problems() -> list[str]`
for rules that span fields.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from shared.errors import Permanent

T = TypeVar("T")


class Secret(str):
    """A string that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"


class ConfigError(Permanent):
    """Every mistake found, one a line."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("configuration: " + "; ".join(mistakes))
        self.mistakes = mistakes


def setting(env: str, meaning: str, *, default: Any = dataclasses.MISSING) -> Any:
    """A field that reads `env`; without a default it is required."""
    return dataclasses.field(default=default, metadata={"env": env, "meaning": meaning})


def read_toml(path: Path | None) -> dict[str, Any]:
    """The file's table; an absent path is an empty one. Raises ConfigError if it cannot be read."""
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: {error}"]) from error


def load(cls: type[T], env: Mapping[str, str], table: Mapping[str, Any] | None = None) -> T:
    """The configuration of `cls`. Raises ConfigError with every missing, unknown or unfit value at once."""
    table = table or {}
    assert dataclasses.is_dataclass(cls)
    hints = typing.get_type_hints(cls)
    mistakes = [f"{key}: unknown" for key in table.keys() - hints.keys()]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        variable = field.metadata["env"]
        if variable in env:
            source, raw = variable, env[variable]
        elif field.name in table:
            source, raw = field.name, table[field.name]
        else:
            if field.default is dataclasses.MISSING:
                mistakes.append(f"{variable}: missing ({field.metadata['meaning']})")
            continue
        try:
            values[field.name] = _convert(raw, hints[field.name])
        except (ValueError, TypeError) as error:
            mistakes.append(f"{source}: {error} ({field.metadata['meaning']})")
    if mistakes:
        raise ConfigError(mistakes)
    config: Any = cls(**values)
    problems = config.problems() if hasattr(config, "problems") else []
    if problems:
        raise ConfigError(problems)
    return typing.cast("T", config)


def _convert(raw: Any, wanted: Any) -> Any:
    if typing.get_origin(wanted) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(wanted) if option is not type(None)]
        return None if raw == "" and type(None) in typing.get_args(wanted) else _convert(raw, options[0])
    if typing.get_origin(wanted) is tuple:
        items = raw.split(",") if isinstance(raw, str) else raw
        return tuple(_convert(item, typing.get_args(wanted)[0]) for item in items if item != "")
    if wanted is bool:
        return _boolean(raw)
    if wanted in (int, float) and not isinstance(raw, bool):
        try:
            return wanted(raw)
        except ValueError:
            noun = "a whole number" if wanted is int else "a number"
            raise ValueError(f"{raw!r} is not {noun}") from None
    if wanted in (str, Secret, Path):
        if not isinstance(raw, str):
            raise TypeError("is not text")
        return wanted(raw)
    raise TypeError(f"{wanted} is no kind of setting")


def _boolean(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if str(raw).lower() in ("1", "true", "yes", "on"):
        return True
    if str(raw).lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"{raw!r} is neither true nor false")


def read_secret(path: Path) -> Secret:
    """A secret file's text. Raises ConfigError if it is missing, empty, or readable by others than its owner."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not text"]) from None  # the error would quote it
    if mode & 0o077:
        raise ConfigError([f"{path}: others may read it; run chmod 600 on it"])
    if not text:
        raise ConfigError([f"{path}: is empty"])
    return Secret(text)


def read_secret_line(path: Path) -> Secret:
    """The same, of a file that holds one token or key. Raises ConfigError also where it is not one line of ASCII."""
    secret = read_secret(path)
    if not (secret.isascii() and secret.isprintable()):
        raise ConfigError([f"{path}: is not one line of printable characters"])
    return secret
