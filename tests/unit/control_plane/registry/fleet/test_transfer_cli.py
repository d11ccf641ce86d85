"""Import and export where the hub says no; where it says yes: tests/stack/registry/fleet/test_api.py."""

from pathlib import Path

import pytest

from control_plane.registry.fleet.transfer_cli import _followed
from shared.errors import HubError, Permanent, Transient
from tests.unit.control_plane.registry.conftest import Hub


def test_a_refused_import_leaves_no_key_file_with_words_in_it(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("{}\n")
    keys = tmp_path / "keys"
    words = ("device", "import", str(tmp_path / "f"), "--keys-out", str(keys))
    status, _, err = hub(*words, answers=[(403, {"detail": "this needs the role operator"})])
    assert (status, "operator" in err) == (1, True)
    assert keys.read_text() == ""
    assert keys.stat().st_mode & 0o777 == 0o600
    status, _, err = hub(*words, answers=[])
    assert (status, hub.asked) == (1, [])
    assert "exists already" in err


@pytest.mark.parametrize(
    ("reports", "kind", "words"),
    [
        ([{"failed": {"status": 503, "detail": "Postgres is away"}}], Transient, "Postgres is away"),
        ([{"failed": {"status": 500, "detail": "a bug"}}], Permanent, "a bug"),
        ([{"line": 1, "result": "created", "id": "a"}], Transient, "ended before"),
    ],
)
def test_an_import_that_ends_early_says_so(
    reports: list[dict[str, object]], kind: type[HubError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        _followed(iter(reports), None)
