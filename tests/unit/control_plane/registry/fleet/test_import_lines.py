"""Lines of an import: what is good, and what is wrong with the others."""

import io
import json

import pytest

from control_plane.registry.fleet.import_lines import LINE_BYTES, Bad, Format, Wanted, bounded, parse


def read(text: str | bytes, written: Format = Format.JSON_LINES) -> list[Wanted | Bad]:
    content = text.encode() if isinstance(text, str) else text
    return list(parse(bounded(io.BytesIO(content).readline), written))


def one(text: str | bytes, written: Format = Format.JSON_LINES) -> Wanted | Bad:
    (found,) = read(text, written)
    return found


def test_a_line_is_a_registration_and_blank_ones_are_none() -> None:
    found = read('{"serial": "S", "type": "t", "gateway_id": "gw"}\n\n  \n{"serial": "T", "type": "t"}')
    assert [item.line for item in found] == [1, 4]
    assert isinstance(found[0], Wanted)
    assert (found[0].device.serial, found[0].device.gateway_id, found[0].device.id) == ("S", "gw", None)


@pytest.mark.parametrize(
    ("line", "why", "pointer"),
    [
        ("{", "malformed", None),
        (b'{"serial": "\xff", "type": "t"}', "malformed", None),
        ("[]", "invalid", ""),
        ('{"serial": "S"}', "invalid", "/type"),
        ('{"serial": "S", "type": "t", "id": "../x"}', "invalid", "/id"),
        ('{"serial": "S", "type": "t", "colour": 1}', "invalid", "/colour"),
        ('{"serial": "S", "type": "t", "labels": {"a": 1}}', "invalid", "/labels/a"),
        ('{"serial": "S", "type": "t", "status": "retired"}', "retired", "/status"),
        ('{"serial": "' + "S" * LINE_BYTES + '", "type": "t"}', "too-large", None),
    ],
)
def test_what_is_wrong_with_a_line(line: str | bytes, why: str, pointer: str | None) -> None:
    found = one(line)
    assert isinstance(found, Bad)
    assert (found.line, found.why, found.pointer) == (1, why, pointer)


def test_a_line_of_any_length_costs_one_refusal_and_little_memory() -> None:
    content = b"x" * (50 * LINE_BYTES) + b"\n" + b'{"serial": "S", "type": "t"}'
    asked: list[int] = []
    file = io.BytesIO(content)

    def readline(size: int) -> bytes:
        asked.append(size)
        return file.readline(size)

    found = list(parse(bounded(readline), Format.JSON_LINES))
    assert [type(item) for item in found] == [Bad, Wanted]
    assert max(asked) <= LINE_BYTES + 2


def test_csv() -> None:
    text = (
        "serial,type,label.site,labels,lat,messages_per_s,kind\n"
        'S,t,berlin,"{""floor"": ""2""}",52.5,5,\n'
        '"a ""b"", c",t,,,,,gateway\n'
    )
    found = [item.device for item in read(text, Format.CSV) if isinstance(item, Wanted)]
    assert found[0].labels == {"site": "berlin", "floor": "2"}
    assert found[0].location is not None
    assert found[0].location.lat == 52.5
    assert found[0].limits is not None
    assert found[0].limits.messages_per_s == 5
    assert (found[1].serial, found[1].kind, found[1].labels) == ('a "b", c', "gateway", {})


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("serial,colour\nS,red\n", 1, "no such column: 'colour'"),
        ("serial,serial\nS,S\n", 1, "named twice"),
        ("serial,type\nS\n", 2, "1 fields, the first one 2"),
        ("serial,type,labels\nS,t,nonsense\n", 2, "JSON object"),
        ("serial,type,labels\nS,t,[1]\n", 2, "JSON object"),
        ("serial,type,lat\nS,t,north\n", 2, "number"),
        (b"serial,type\n\xff,t\n", 1, "not UTF-8"),
        ('serial,type\n"S,t\n', 2, "not CSV"),
    ],
)
def test_what_is_wrong_with_csv(text: str | bytes, line: int, words: str) -> None:
    found = one(text, Format.CSV)
    assert isinstance(found, Bad)
    assert found.line == line
    assert words in found.detail


def test_every_line_of_json_is_judged_as_a_registration_is() -> None:
    """The same model: what a single registration refuses is refused here."""
    from control_plane.registry.resources import NewDevice

    for example in NewDevice.model_config["json_schema_extra"]["examples"]:  # type: ignore[index,call-overload]
        assert isinstance(one(json.dumps(example)), Wanted)
