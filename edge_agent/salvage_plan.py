"""What a damaged outbox still may say to the hub. PURE; reading the file is `edge_agent.salvage`.

Promises: a row that was read is sent, and shows once if its batch's description was read too; a number whose batch
is gone is told to the hub as void, so that it counts as damaged and not as lost on the way; nothing is called closed
whose last number is not known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_agent.row import Counts
from edge_agent.uplink_state import Batch, OldEpoch, Span, Void
from shared.ids import Epoch

_MOST_VOIDS = 8  # so many fit one header, whatever their numbers


@dataclass(frozen=True, slots=True)
class Mended:
    """What the new file holds beside rows."""

    batches: tuple[Batch, ...]
    epochs: tuple[OldEpoch, ...]
    voids: tuple[Void, ...]


def mend(
    batches: Sequence[Batch],
    epochs: Sequence[OldEpoch],
    voids: Sequence[Void],
    *,
    complete: bool,
    present: Callable[[Span], Counts],
) -> Mended:
    """Decide, from what was read; `complete`: all descriptions of batches could be read.

    A batch that lost some of its rows keeps its number and is sent with the rest: if the hub has the whole of it, the
    rest is a repeat; if not, the rest is all there is. A batch that lost all is void. Where descriptions are missing,
    every number without one is void: to the hub that means nothing for numbers that it has seen. Their rows, if they
    were read, wait again, and may show twice.
    """
    kept: list[Batch] = []
    lost: list[tuple[Epoch, int]] = []
    for batch in _disjoint(batches):
        counts = present(batch.span)
        if sum(counts) == 0:
            lost.append(batch.key)
        else:
            kept.append(replace(batch, counts=counts))
    if len(_disjoint(batches)) < len(batches):
        complete = False
    known = _with_last(epochs, batches)
    for batch in batches:
        if all(epoch.epoch != batch.epoch for epoch in known):
            known.append(OldEpoch(batch.epoch, None))
    places = {epoch.epoch: place for place, epoch in enumerate(known)}
    kept.sort(key=lambda batch: (places[batch.epoch], batch.number))
    gone = list(voids)
    if complete:
        gone += [(epoch, number, number) for epoch, number in lost]
    else:
        gone = _all_but(kept, known)
    left = {batch.epoch for batch in kept}
    return Mended(
        tuple(kept),
        tuple(epoch for epoch in known if epoch.last is not None or epoch.epoch in left),
        _few([void for void in gone if void[0] in left or any(e.epoch == void[0] and e.last for e in known)]),
    )


def _with_last(epochs: Sequence[OldEpoch], batches: Sequence[Batch]) -> list[OldEpoch]:
    """The epochs with their true last number: what is kept of it moves only when rows are freed."""
    highest: dict[Epoch, int] = {}
    for batch in batches:
        highest[batch.epoch] = max(highest.get(batch.epoch, 0), batch.number)
    return [
        epoch if epoch.last is None else replace(epoch, last=max(epoch.last, highest.get(epoch.epoch, 0)))
        for epoch in epochs
    ]


def _disjoint(batches: Sequence[Batch]) -> list[Batch]:
    """Those whose spans make sense beside one another; of two that overlap, neither can be trusted."""
    ordered = sorted(batches, key=lambda batch: batch.span)
    good: list[Batch] = []
    reach = 0
    for place, batch in enumerate(ordered):
        first, last = batch.span
        following = ordered[place + 1].span[0] if place + 1 < len(ordered) else last + 1
        if first <= last and first > reach and last < following:
            good.append(batch)
        reach = max(reach, last)
    return good


def _all_but(kept: Sequence[Batch], epochs: Sequence[OldEpoch]) -> list[Void]:
    """Every number up to an epoch's last, or up to the highest kept where that is unknown, that is not kept."""
    found: list[Void] = []
    for epoch in epochs:
        numbers = [batch.number for batch in kept if batch.epoch == epoch.epoch]
        end = max(numbers, default=0) if epoch.last is None else epoch.last + 1
        start = 1
        for number in sorted({*numbers, end}):
            if start < number:
                found.append((epoch.epoch, start, number - 1))
            start = number + 1
    return found


def _few(voids: Sequence[Void]) -> tuple[Void, ...]:
    """At most `_MOST_VOIDS` an epoch, else one over all: an epoch is listed as closed with all its voids or not.

    Voids are told only when the epoch is closed, when every number in a wide range was seen or is void.
    """
    merged: list[Void] = []
    for epoch in dict.fromkeys(void[0] for void in voids):
        own = sorted(void for void in voids if void[0] == epoch)
        if len(own) > _MOST_VOIDS:
            own = [(epoch, own[0][1], max(last for _, _, last in own))]
        merged += own
    return tuple(merged)
