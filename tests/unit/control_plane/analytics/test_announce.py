"""The file that says where health is."""

import json
import os
from pathlib import Path

from control_plane.analytics.announce import announce


def test_it_names_this_process_and_replaces_an_older_one(tmp_path: Path) -> None:
    for port in (1, 2):
        announce(tmp_path, "sink", port)
    assert json.loads((tmp_path / "run" / "sink.json").read_text()) == {"pid": os.getpid(), "health_port": 2}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["sink.json"]
