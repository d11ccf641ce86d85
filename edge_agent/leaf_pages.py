"""Rows of a SQLite table read from its leaf pages alone, where the pages that lead to them are destroyed. PURE.

Source: SQLite database file format, sections 1.5 to 1.8 and 2.1 (b-tree pages, overflow, pointer maps, records).
Promises: yields the live cells of every page that the file's pointer map does not call free, and never raises for
what the bytes are. What a cell means, and whether it makes sense, is the caller's to judge.
"""

from collections.abc import Callable, Iterator

Value = int | bytes | str | None
Page = Callable[[int], bytes]
"""The page of this number (from 1), or fewer bytes if the file is too short."""

_LEAF = 0x0D
_FREE = 2
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_ENTRY = 5  # bytes of a pointer map's entry
_PAYLOAD = 1 << 20  # no record of ours is larger


def cells(page: Page, pages: int, size: int, columns: int) -> Iterator[tuple[int, list[Value]]]:
    """(rowid, columns) of every cell with so many columns; a rowid column is None there. Needs auto_vacuum's map."""
    for number in range(3, pages + 1):
        data = page(number)
        if len(data) < size or data[0] != _LEAF or _is_free(page, number, size):
            continue
        for index in range(min(int.from_bytes(data[3:5], "big"), (size - 8) // 2)):
            at = int.from_bytes(data[8 + 2 * index : 10 + 2 * index], "big")
            try:
                length, at = _varint(data, at)
                rowid, at = _varint(data, at)
                if not 0 < length <= _PAYLOAD:
                    continue
                values = _record(_payload(page, data, at, length, size))
            except (IndexError, ValueError):
                continue
            if len(values) == columns:
                yield rowid, values


def _is_free(page: Page, number: int, size: int) -> bool:
    per_map = size // _ENTRY
    map_page = (number - 2) // (per_map + 1) * (per_map + 1) + 2
    if number == map_page:
        return True
    at = _ENTRY * (number - map_page - 1)
    return page(map_page)[at : at + 1] == bytes([_FREE])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(9):
        byte = data[at + place]
        value = value << 8 | byte if place == 8 else value << 7 | byte & 0x7F
        if place == 8 or byte < 0x80:
            break
    return value - (1 << 64 if value >= 1 << 63 else 0), at + place + 1


def _payload(page: Page, data: bytes, at: int, length: int, size: int) -> bytes:
    """All of a cell's payload, its overflow pages included."""
    most = size - 35
    if length <= most:
        return data[at : at + length]
    least = (size - 12) * 32 // 255 - 23
    local = least + (length - least) % (size - 4)
    if local > most:
        local = least
    found = bytearray(data[at : at + local])
    following = int.from_bytes(data[at + local : at + local + 4], "big")
    while following and len(found) < length:
        more = page(following)
        if len(more) < size:
            break
        found += more[4 : 4 + length - len(found)]
        following = int.from_bytes(more[:4], "big")
    if len(found) < length:
        raise ValueError("the chain of overflow pages breaks")
    return bytes(found)


def _record(payload: bytes) -> list[Value]:
    end, at = _varint(payload, 0)
    body = end
    values: list[Value] = []
    while at < end:
        kind, at = _varint(payload, at)
        if kind in _INTEGERS:
            length = _INTEGERS[kind]
            values.append(int.from_bytes(payload[body : body + length], "big", signed=True))
        elif kind in (8, 9):
            length = 0
            values.append(kind - 8)
        elif kind == 0:
            length = 0
            values.append(None)
        elif kind >= 12:
            length = (kind - 12) // 2
            raw = payload[body : body + length]
            values.append(raw if kind % 2 == 0 else raw.decode())
        else:
            raise ValueError("a kind of value that we do not store")
        body += length
        if body > len(payload):
            raise ValueError("a record longer than its payload")
    return values
