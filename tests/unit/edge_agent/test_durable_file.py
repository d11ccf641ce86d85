from pathlib import Path

import pytest

from edge_agent import durable_file
from edge_agent.durable_file import write
from shared.errors import Permanent


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    write(path, b"old")
    (tmp_path / "key.part").write_bytes(b"half")  # of a run that was cut off

    def fails(*_: object) -> None:
        raise OSError(5, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(durable_file.os, "fsync", fails)
        with pytest.raises(Permanent, match="cannot be written"):
            write(path, b"new")
    assert path.read_bytes() == b"old"
    write(path, b"new")
    assert path.read_bytes() == b"new"
