"""Where a process answers for its health, left in a file for whoever started it."""

import os
from pathlib import Path

import msgspec


def announce(data_dir: Path, name: str, port: int) -> None:
    """Write `$HUB_DATA_DIR/run/<name>.json`: {"pid", "health_port"}; a reader sees the old or the new one whole."""
    directory = data_dir / "run"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = directory / f"{name}.json"
    fresh = target.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(msgspec.json.encode({"pid": os.getpid(), "health_port": port}))
    fresh.replace(target)
