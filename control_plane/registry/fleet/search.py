"""How a list of devices is read so that a page costs the same in a small fleet and in a large one. PURE.

Every filter has a *stream*: an index that gives the ids of its devices in order. A page walks one stream from behind
the cursor and asks each device on the way for the other filters. Which stream: the one whose STRIDE-th id lies
farthest ahead, since that is the sparsest just there; so a page examines STRIDE devices at most. Where all filters
are frequent and yet hardly meet, a page may come back short, or empty, with a cursor that goes on.

A part of a serial has no stream: where the planner expects few matches they are taken from the trigram index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.device import Kind, Status

STRIDE = 1_000
"""The most devices that one page examines."""
FEW_MATCHES = 1_000
"""So many matches of a serial's part are fetched and sorted, if the planner expects no more."""
TRIGRAM = 3
END = "~"
"""Behind every id."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label that a device must have; `value` None: whatever its value is."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for; all of it must hold. `text`: a part of the serial, in whatever case."""

    kind: Kind | None = None
    status: Status | None = None
    type: str | None = None
    gateway_id: str | None = None
    members_of: str | None = None
    labels: tuple[Label, ...] = ()
    text: str | None = None


class Parameters:
    """Collects values and gives each its place in a statement."""

    def __init__(self, *first: object) -> None:
        self.values: list[object] = list(first)

    def add(self, value: object) -> str:
        """The placeholder of a new value."""
        self.values.append(value)
        return f"${len(self.values)}"


@dataclass(frozen=True, slots=True)
class Stream:
    """An index by which ids come in order: `column` of `table` where `condition` holds (`{}`: its values)."""

    table: str
    column: str
    condition: str = "true"
    values: tuple[object, ...] = ()

    def ids(self, parameters: Parameters, *, bounded: bool) -> str:
        """The statement that gives its ids behind $1, up to $2 if `bounded`, in order."""
        condition = self.condition.format(*(parameters.add(value) for value in self.values))
        end = f" AND s.{self.column} <= $2" if bounded else ""
        return (
            f"SELECT s.{self.column} AS id FROM {self.table} AS s"  # noqa: S608 - our own words, values as parameters
            f" WHERE {condition} AND s.{self.column} > $1{end} ORDER BY 1"
        )


_REGISTERED = "s.registered_at IS NOT NULL"
EVERYBODY = Stream("devices", "id")


def streams(wanted: Filter) -> tuple[Stream, ...]:
    """One for each filter that has one; EVERYBODY if none has. Nearly all are devices: among all they are dense."""
    found: list[Stream] = []
    if wanted.gateway_id is not None:
        found.append(
            Stream("gateway_ownership", "device_id", "s.gateway_id = {} AND s.until_at IS NULL", (wanted.gateway_id,))
        )
    if wanted.members_of is not None:
        found.append(Stream("device_group_members", "device_id", "s.group_name = {}", (wanted.members_of,)))
    for label in wanted.labels:
        if label.value is None:
            found.append(Stream("device_labels", "device_id", "s.name = {}", (label.name,)))
        else:
            found.append(
                Stream("device_labels", "device_id", "s.name = {} AND s.value = {}", (label.name, label.value))
            )
    if wanted.type is not None:
        found.append(Stream("devices", "id", f"s.type = {{}} AND {_REGISTERED}", (wanted.type,)))
    if wanted.status is not None:
        found.append(Stream("devices", "id", f"s.status = {{}} AND {_REGISTERED}", (wanted.status.value,)))
    if wanted.kind is Kind.GATEWAY:
        found.append(Stream("devices", "id", f"s.kind = 'gateway' AND {_REGISTERED}"))
    return tuple(found) or (EVERYBODY,)


def all_wanted(wanted: Filter) -> bool:
    """Whether everybody on the only stream of such a filter fits it, so that no walk along it is long."""
    return wanted.text is None and wanted.kind is not Kind.DEVICE


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with its values."""

    text: str
    values: Sequence[object]


def probe(choices: Sequence[Stream], after: str) -> Statement:
    """One row: for each stream the id that is STRIDE ahead, or NULL if it ends before."""
    parameters = Parameters(after)
    columns = []
    for number, stream in enumerate(choices):
        ids = stream.ids(parameters, bounded=False)
        ahead = f"CASE WHEN count(*) = {STRIDE} THEN max(p.id) END"
        columns.append(f"(SELECT {ahead} FROM ({ids} LIMIT {STRIDE}) AS p) AS s{number}")  # noqa: S608 - as above
    return Statement(f"SELECT {', '.join(columns)}", parameters.values)


def sparsest(ahead: Sequence[str | None]) -> int:
    """The number of the stream to walk, by what `probe` said."""
    return max(range(len(ahead)), key=lambda number: (ahead[number] is None, ahead[number] or ""))


def count_text(text: str) -> Statement:
    """Asks the planner, not the data, how many devices match."""
    return Statement("EXPLAIN (FORMAT JSON) SELECT 1 FROM devices AS d WHERE d.serial ILIKE $1", [pattern(text)])


def page(wanted: Filter, stream: Stream | None, after: str, until: str | None, limit: int) -> Statement:
    """The devices behind `after` and up to `until` in the order of their ids. `stream` None: by the trigram index."""
    parameters = Parameters(after, until or END, limit)
    if stream is None:
        assert wanted.text is not None
        place = parameters.add(pattern(wanted.text))
        source = (
            f"WITH m AS MATERIALIZED (SELECT d.id FROM devices AS d WHERE d.serial ILIKE {place})"  # noqa: S608
            " SELECT m.id FROM m WHERE m.id > $1 AND m.id <= $2 ORDER BY 1"
        )
    else:
        source = stream.ids(parameters, bounded=True)
    conditions = ["d.id = c.id", "d.registered_at IS NOT NULL", *_conditions(wanted, parameters)]
    # A lateral subquery with its own LIMIT is asked once for each id, in order, and only until the page is full.
    return Statement(
        f"SELECT f.* FROM ({source}) AS c CROSS JOIN LATERAL ("  # noqa: S608 - as above
        "SELECT d.*, o.gateway_id FROM devices AS d"
        " LEFT JOIN gateway_ownership AS o ON o.device_id = d.id AND o.until_at IS NULL"
        f" WHERE {' AND '.join(conditions)} LIMIT 1) AS f ORDER BY c.id LIMIT $3",
        parameters.values,
    )


def pattern(text: str) -> str:
    """The LIKE pattern of a part: what is special in patterns is meant as it stands."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _conditions(wanted: Filter, parameters: Parameters) -> list[str]:
    plain: Mapping[str, Any] = {
        "d.kind = {}": wanted.kind and wanted.kind.value,
        "d.status = {}": wanted.status and wanted.status.value,
        "d.type = {}": wanted.type,
        "o.gateway_id = {}": wanted.gateway_id,
        "EXISTS (SELECT FROM device_group_members AS g WHERE g.group_name = {} AND g.device_id = d.id)": (
            wanted.members_of
        ),
        "d.serial ILIKE {}": pattern(wanted.text) if wanted.text is not None else None,
    }
    found = [words.format(parameters.add(value)) for words, value in plain.items() if value is not None]
    for label in wanted.labels:
        if label.value is None:
            found.append(f"d.labels ? {parameters.add(label.name)}")
        else:
            found.append(f"d.labels ->> {parameters.add(label.name)}::text = {parameters.add(label.value)}::text")
    return found
