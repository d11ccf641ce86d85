"""The key that turns device ids into pseudonyms, from its file."""

from pathlib import Path

from shared.config import ConfigError, read_secret


def read_pseudonym_key(data_dir: Path, file: Path | None) -> bytes:
    """The key in `file`, or in `pseudonym.key` of `data_dir`. Raises ConfigError; nothing of the key is in it."""
    path = file or data_dir / "pseudonym.key"
    text = str(read_secret(path))
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError([f"{path}: is not 32 bytes in hexadecimal; `hub migrate` makes it"])
    return key
