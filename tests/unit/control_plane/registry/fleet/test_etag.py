"""Entity tags: what a client saw, and whether that is still so."""

import dataclasses
from datetime import UTC, datetime

import pytest

from control_plane.registry.device import Device, KeyUse
from control_plane.registry.fleet import etag
from shared.device import Kind, Status

AT = datetime(2026, 1, 1, tzinfo=UTC)
DEVICE = Device("dev", "S", "t", Kind.DEVICE, Status.ACTIVE, None, {}, 7, AT, AT)


def test_a_tag_changes_with_the_version_and_with_the_use_of_keys() -> None:
    unused = dataclasses.replace(DEVICE, keys=(KeyUse("k:a", AT, None),))
    used = dataclasses.replace(DEVICE, keys=(KeyUse("k:a", AT, AT),))
    later = dataclasses.replace(used, version=8)
    tags = [etag.tag(device) for device in (DEVICE, unused, used, later)]
    assert tags[0] == '"7"'
    assert len(set(tags)) == 4
    assert all(etag.expected(tag) == {7} for tag in tags[:3])


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("*", None),
        ('"7"', {7}),
        ('"7-abcdef01"', {7}),
        ('"7", "8-x"', {7, 8}),
        ('W/"7"', set()),  # a weak tag never matches where a change could be lost
        ("7", set()),
        ('"seven"', set()),
        ('"²"', set()),
        ('"99999999999999999999"', set()),
        ("", set()),
    ],
)
def test_what_an_if_match_allows(header: str, allowed: set[int] | None) -> None:
    assert etag.expected(header) == allowed


@pytest.mark.parametrize(
    ("header", "seen"),
    [
        (None, False),
        ("*", True),
        ('"7"', True),
        ('W/"7"', True),
        ('"6", "7"', True),
        ('"7-a"', False),
        ('"6"', False),
    ],
)
def test_what_a_client_has_already(header: str | None, seen: bool) -> None:
    assert etag.seen(header, '"7"') is seen
