import pytest

from shared import ids
from shared.errors import Reason, Rejected


@pytest.mark.parametrize("text", ["a", "A9", "0-_", "x" * 64, "gateway-1"])
def test_an_id_of_the_stated_shape_is_taken(text):
    assert ids.parse_device_id(text) == text
    assert ids.is_device_id(text)


@pytest.mark.parametrize("text", ["", "_ingest", "-a", "a/b", "a+b", "#", "x" * 65, "a\n", "ä", "a b", "k:abc"])
def test_any_other_text_is_refused_with_the_rule(text):
    refused = ids.parse_device_id(text)
    assert isinstance(refused, Rejected)
    assert refused.reason is Reason.BAD_FIELD
    assert "1 to 64" in refused.detail
    assert not ids.is_device_id(text)


def test_made_names_have_their_own_shapes_and_do_not_repeat():
    devices = {ids.new_device_id() for _ in range(500)}
    assert len(devices) == 500
    assert all(ids.is_device_id(device) and len(device) == 12 for device in devices)
    assert not ids.is_device_id(ids.new_key_id())
    assert ids.is_epoch(ids.new_epoch())
    assert len(ids.new_secret()) >= 43  # 256 bits in base64


@pytest.mark.parametrize("text", ["", "a" * 21, "a" * 23, "a" * 21 + "=", "a" * 21 + "\n"])
def test_an_epoch_is_22_characters_of_base64url(text):
    assert not ids.is_epoch(text)
