"""Files that `hub migrate` makes once: the first admin token, and the key of the pseudonyms.

Promises: a file appears whole, mode 0600, and durable, or not at all; one that exists is never replaced. Leaves the
token's record in the database to `control_plane.db.setup`.
"""

import os
import secrets
from pathlib import Path

from control_plane.db.api_token import split_token
from shared.config import read_secret
from shared.errors import Permanent

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def new_token() -> str:
    """`t-<12 characters>.<256 random bits in base64url>`; what stands before the dot names it and is no secret."""
    name = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return f"t-{name}.{secrets.token_urlsafe(32)}"


def ensure_token(path: Path) -> tuple[str, bool]:
    """The file's token, made if missing; True if it was. Raises ConfigError or Permanent for a file that is none."""
    made = create_once(path, new_token() + "\n")
    token = str(read_secret(path))
    if split_token(token) is None:
        raise Permanent(f"{path} holds no token of this hub", hint="remove the file and run `hub migrate` again")
    return token, made


def ensure_pseudonym_key(path: Path) -> bool:
    """Make the file of 32 random bytes in hexadecimal if missing; True if it was. Raises as `ensure_token`."""
    made = create_once(path, secrets.token_hex(32) + "\n")
    text = str(read_secret(path))
    try:
        sound = len(bytes.fromhex(text)) == 32
    except ValueError:
        sound = False
    if not sound:
        raise Permanent(f"{path} is not 32 bytes in hexadecimal", hint="restore it: a new key gives new pseudonyms")
    return made


def create_once(path: Path, text: str) -> bool:
    """Write `text` to a new file of mode 0600; False if `path` exists. Raises Permanent if it cannot be written."""
    if path.exists():
        return False
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(unfinished, path)  # unlike a rename it never replaces what another process just made
            except FileExistsError:
                return False
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise Permanent(f"{path} cannot be written: {error.strerror}") from error
    return True


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
