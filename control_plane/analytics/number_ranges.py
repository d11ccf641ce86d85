"""Sets of whole numbers as inclusive ranges, sorted, disjoint and never touching. PURE.

A gap of 10^17 numbers is one pair, so nothing that a header claims can make work or memory grow with the claim.
"""

from collections.abc import Iterator
from typing import TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]


def count(ranges: Ranges) -> int:
    """How many numbers."""
    return sum(last - first + 1 for first, last in ranges)


def contains(ranges: Ranges, number: int) -> bool:
    """True if `number` is one of them."""
    return any(first <= number <= last for first, last in ranges)


def add(ranges: Ranges, first: int, last: int) -> Ranges:
    """With the numbers first..last too."""
    assert first <= last
    if ranges and ranges[-1][1] < first:  # in order, as nearly always
        if ranges[-1][1] == first - 1:
            return (*ranges[:-1], (ranges[-1][0], last))
        return (*ranges, (first, last))
    before = tuple(pair for pair in ranges if pair[1] < first - 1)
    after = tuple(pair for pair in ranges if pair[0] > last + 1)
    joined = ranges[len(before) : len(ranges) - len(after)]
    if joined:
        first, last = min(first, joined[0][0]), max(last, joined[-1][1])
    return (*before, (first, last), *after)


def clip(ranges: Ranges, first: int, last: int) -> Ranges:
    """Those of first..last."""
    return tuple((max(a, first), min(b, last)) for a, b in ranges if b >= first and a <= last)


def since(ranges: Ranges, first: int) -> Ranges:
    """Those from `first` on."""
    if not ranges or ranges[0][0] >= first:
        return ranges
    return tuple((max(a, first), b) for a, b in ranges if b >= first)


def missing(ranges: Ranges, first: int, last: int) -> Ranges:
    """The numbers of first..last that are not among them."""
    return tuple(_missing(ranges, first, last))


def _missing(ranges: Ranges, first: int, last: int) -> Iterator[tuple[int, int]]:
    for a, b in clip(ranges, first, last):
        if first < a:
            yield first, a - 1
        first = b + 1
    if first <= last:
        yield first, last


def both(left: Ranges, right: Ranges) -> Ranges:
    """The numbers in both."""
    return tuple(pair for first, last in left for pair in clip(right, first, last))


def without(left: Ranges, right: Ranges) -> Ranges:
    """The numbers in `left` and not in `right`."""
    return tuple(pair for first, last in left for pair in missing(right, first, last))
