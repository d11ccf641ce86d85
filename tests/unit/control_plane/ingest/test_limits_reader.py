"""What is taken from the registry topic; with a real Kafka: tests/stack/ingest/test_limits.py."""

from control_plane.ingest.limits import Book
from control_plane.ingest.limits_reader import take
from shared.device import DeviceView, Kind, Limits, Status, encode_view
from shared.rates import DEVICE, RECORD_KEY, Defaults, Rates, encode_defaults


def messages(book, name="d"):
    return book.rates(name, Kind.DEVICE)[0]


def test_devices_defaults_and_what_is_forgotten():
    book = Book()
    view = DeviceView("d", Kind.DEVICE, "thermometer", Status.ACTIVE, 1, (), Limits(messages_per_s=2.0))
    take(book, b"d", encode_view(view))
    assert messages(book) == 2.0
    told = Defaults(1, Rates(9.0, 9.0, 9.0), types={"thermometer": Limits(messages_per_s=3.0)})
    take(book, RECORD_KEY, encode_defaults(told))
    assert (messages(book), messages(book, "e")) == (2.0, 9.0)
    take(book, b"d", None)
    take(book, None, None)
    assert messages(book) == 9.0


def test_what_is_none_of_ours_is_passed_over():
    book = Book()
    for key, value in [(b"d", b""), (b"d", b"\xff"), (RECORD_KEY, b"[]"), (RECORD_KEY, b'{"device": 5}')]:
        take(book, key, value)
    assert messages(book) == DEVICE.messages_per_s
