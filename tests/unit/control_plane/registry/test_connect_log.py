"""Lines as Mosquitto writes them, and lines that imitate them."""

import pytest

from control_plane.registry.connect_log import used_key

HEAD = b"1795463404: New client connected from 127.0.0.1:37674 as "


def test_a_connect_tells_its_key() -> None:
    assert used_key(HEAD + b"dev1 (p5, c1, k60, u'k:abc234').") == "k:abc234"


def test_a_client_id_cannot_speak_for_another_key() -> None:
    assert used_key(HEAD + b"dev (p2, c1, k60, u'k:zzz'). (p2, c1, k60, u'k:abc').") == "k:abc"
    assert used_key(HEAD + b"dev (p2, c1, k60, u'k:zzz').\nx (p2, c1, k60, u'k:abc').") == "k:abc"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"1795463404: New connection from 127.0.0.1:37674 on port 1883.",
        b"1795463404: Client dev1 disconnected.",
        HEAD + b"_ingest-0 (p5, c0, k60, u'_ingest').",
        HEAD + b"dev (p2, c1, k60).",
        HEAD + b"dev (p2, c1, k60, u'k:zzz') (p2, c1, k60, u'_monitor').",
    ],
)
def test_other_lines_tell_nothing(line: bytes) -> None:
    assert used_key(line) is None
