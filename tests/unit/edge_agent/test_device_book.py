import pytest

from edge_agent.device_book import MOST_UNKNOWN, Device, DeviceBook, Gate, Key, Page, decode, encode, passes_all

PENDING = Page((Device("a", "active"), Device("p", "pending")), "1", "pending")


def test_the_gate() -> None:
    book = DeviceBook("gw", PENDING)
    gates = {device: book.gate(device) for device in ("a", "p", "gw", "new")}
    assert gates == {"a": Gate.PASS, "p": Gate.HOLD, "gw": Gate.PASS, "new": Gate.HOLD}
    assert list(book.unknown) == ["new"]
    assert [book.passes(device) for device in ("a", "p", "new")] == [True, False, False]


def test_without_the_policy_unknown_devices_are_the_hubs_to_judge() -> None:
    assert DeviceBook("gw").gate("new") is Gate.PASS
    book = DeviceBook("gw", Page(PENDING.devices, "1", "reject"))
    assert [book.gate(device) for device in ("new", "p")] == [Gate.PASS, Gate.HOLD]
    assert book.passes("new")
    assert not book.unknown
    assert passes_all("new") is Gate.PASS


def test_answers_to_a_report() -> None:
    book = DeviceBook("gw", PENDING)
    for device in ("x", "y", "z"):
        book.gate(device)
    assert book.answered({"x": "pending", "y": "refused", "z": "later"}) == ["y"]
    assert [book.gate(device) for device in ("x", "y", "z")] == [Gate.HOLD, Gate.DROP, Gate.HOLD]
    assert list(book.unknown) == ["z"], "it is told again"
    assert book.pending == 2
    book.turn(Page((Device("x", "provisioned"), Device("y", "active")), "2", "pending"))
    assert [book.gate(device) for device in ("x", "y", "a")] == [Gate.PASS, Gate.PASS, Gate.HOLD]
    assert list(book.unknown) == ["z", "p", "a"], "what is no longer this gateway's is told like a stranger"


def test_a_pending_device_that_vanishes_from_the_list_is_asked_about() -> None:
    book = DeviceBook("gw", PENDING)
    book.turn(Page((), "2", "pending"))
    assert list(book.unknown) == ["p"], "its rows are held, though it may never speak again"


def test_strangers_do_not_fill_the_memory() -> None:
    book = DeviceBook("gw", PENDING)
    for n in range(MOST_UNKNOWN + 5):
        assert book.gate(f"d{n}") is Gate.HOLD
    assert len(book.unknown) == MOST_UNKNOWN


def test_it_is_kept() -> None:
    page = Page((Device("a", "active", "p-1", (Key("k:1", "$7$x"),)),), "v", "pending")
    assert decode(encode(page)) == page


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"devices": 1}'])
def test_what_cannot_be_read_is_asked_anew(data: bytes) -> None:
    assert decode(data) is None
