"""`hub anomalies`: what the sink stored, the latest first."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from control_plane.analytics.sink_store import SQL
from control_plane.db.connect import connect, database_errors
from shared.envelope import rfc3339
from shared.printable import printable


class StoredAnomaly(msgspec.Struct, frozen=True):
    """One row; times as RFC 3339."""

    id: str
    ts: str
    device_id: str
    metric: str
    value: float
    score: float
    severity: str
    reason: str
    expected: float | None
    source: str
    episode_id: str
    stored_at: str


async def anomalies(
    database_url: str, device: str | None, since_ms: int | None, limit: int
) -> Sequence[StoredAnomaly]:
    """At most `limit` anomalies, the latest measured first. Raises Transient or Permanent."""
    since = None if since_ms is None else datetime.fromtimestamp(since_ms / 1_000, UTC)
    connection = await connect(database_url, application="hub anomalies")
    try:
        with database_errors():
            rows = await connection.fetch(SQL["list_anomalies"], device, since, limit)
    finally:
        await connection.close()
    return [_stored(row) for row in rows]


def as_json(anomaly: StoredAnomaly) -> str:
    """One line."""
    return msgspec.json.encode(anomaly).decode()


def as_line(anomaly: StoredAnomaly) -> str:
    """One anomaly for people; what a device or gateway named in it cannot steer their terminal."""
    expected = "" if anomaly.expected is None else f" expected {anomaly.expected:.6g}"
    return printable(
        f"{anomaly.ts} {anomaly.severity:<8} {anomaly.device_id} {anomaly.metric}={anomaly.value:.6g}{expected}"
        f" ({anomaly.reason}, {anomaly.source}, score {anomaly.score:.1f})"
    )


def _stored(row: Any) -> StoredAnomaly:
    fields = dict(row)
    for name in ("ts", "stored_at"):
        moment = fields[name]
        fields[name] = rfc3339(int(moment.timestamp()) * 1_000 + moment.microsecond // 1_000)
    return StoredAnomaly(**fields)
