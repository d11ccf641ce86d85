"""The demo's count: what was sent against what arrived, alarms against injected episodes. PURE.

The count is by reading: edge-sim numbers each device's readings with `n`, which is carried through, so every set is
over one key, a `Place`: (device, n), or (device, SHA-256) for what was malformed on purpose and has no readable `n`.
Hence accepted + unacknowledged = normalized + rejected + lost, unless something stands in both topics. The gateways'
own health readings bear no number; they are counted apart.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

GRACE_MS = 10_000
"""An alarm up to this long after an episode's end still belongs to it."""

Place = tuple[str, int | str]
"""What identifies a reading: its device, and its number or the digest of its bytes."""

TAKEN = 0
TAKEN_FOR_NOBODY = 0x10
"""PUBACK reason "no matching subscribers": a success to MQTT, but nobody had the message, so nothing was promised."""

MIN_FOUND = 0.8
MAX_FALSE_PER_1000 = 2.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that edge-sim sent. `code`: its broker's PUBACK reason, None if none came.

    `sha256` is set for what was malformed on purpose; `n` is then that of the reading which it followed.
    """

    device: str
    n: int
    sent_ms: int
    code: int | None
    sha256: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the promise began: acknowledged with reason code 0, and nothing else."""
        return self.code == TAKEN

    @property
    def place(self) -> Place:
        """What identifies it."""
        return self.device, self.n if self.sha256 is None else self.sha256


@dataclass(frozen=True, slots=True)
class Visible:
    """One record of `normalized`, when a read_committed reader first saw it. `n` is None for a gateway's own."""

    device: str
    n: int | None
    ce_id: str
    lane: str
    resent: bool
    visible_ms: int

    @property
    def place(self) -> Place | None:
        """What identifies it, or None for a gateway's own."""
        return None if self.n is None else (self.device, self.n)


@dataclass(frozen=True, slots=True)
class Refused:
    """One record of `rejected`."""

    device: str
    n: int | None
    ce_id: str
    sha256: str

    @property
    def place(self) -> Place:
        """What identifies it."""
        return self.device, self.sha256 if self.n is None else self.n


@dataclass(frozen=True, slots=True)
class Alarm:
    """One detected anomaly, at the time of its reading."""

    device: str
    metric: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Episode:
    """One injected fault."""

    device: str
    metric: str
    kind: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """One agent's own account, in records: what it took in, what the hub acknowledged."""

    gateway: str
    accepted: int
    acked: int


@dataclass(frozen=True, slots=True)
class Count:
    """The demo's figures, in readings. Times in milliseconds; None where nothing was measured.

    `unacknowledged`: arrived although no PUBACK with reason code 0 came. `for_nobody`: acknowledged with 0x10.
    """

    accepted: int
    normalized: int
    rejected: int
    lost: int
    duplicates: int
    unacknowledged: int
    for_nobody: int
    health: int
    anomalies_injected: int
    anomalies_detected: int
    false_alarms: int
    p50_ms: float | None
    p99_ms: float | None
    replay_p99_ms: float | None

    def failures(self) -> list[str]:
        """Why the run did not keep the promise, a sentence each; empty when it did."""
        found = []
        if self.normalized == 0:
            found.append("nothing arrived")
        if self.lost:
            found.append(f"{self.lost} accepted readings are neither normalised nor rejected")
        if self.duplicates:
            found.append(f"{self.duplicates} readings show more than once")
        if self.anomalies_detected < MIN_FOUND * self.anomalies_injected:
            found.append(f"only {self.anomalies_detected} of {self.anomalies_injected} injected anomalies were found")
        if self.false_alarms > MAX_FALSE_PER_1000 * self.normalized / 1_000:
            found.append(f"{self.false_alarms} false alarms in {self.normalized} readings")
        return found


def count(
    sent: Collection[Sent],
    visible: Collection[Visible],
    refused: Collection[Refused],
    alarms: Iterable[Alarm],
    episodes: Collection[Episode],
    ledgers: Iterable[Ledger],
) -> Count:
    """The figures of a run after its drain."""
    latencies = _latencies(sent, visible)
    found, false_alarms = _alarms(alarms, episodes)
    accepted = {item.place for item in sent if item.accepted}
    normalized = {item.place for item in visible if item.place is not None}
    rejected = {item.place for item in refused}
    return Count(
        accepted=len(accepted),
        normalized=len(normalized),
        rejected=len(rejected),
        lost=max(len(_missing(sent, visible, refused)), _lost_by_ledger(ledgers, visible, refused)),
        duplicates=_doubled(visible, refused),
        unacknowledged=len((normalized | rejected) - accepted),
        for_nobody=sum(item.code == TAKEN_FOR_NOBODY for item in sent),
        health=len({item.ce_id for item in visible if item.place is None}),
        anomalies_injected=len(episodes),
        anomalies_detected=found,
        false_alarms=false_alarms,
        p50_ms=percentile(latencies["live"], 0.50),
        p99_ms=percentile(latencies["live"], 0.99),
        replay_p99_ms=percentile(latencies["replay"], 0.99),
    )


def explain(
    sent: Iterable[Sent],
    visible: Collection[Visible],
    refused: Collection[Refused],
    alarms: Iterable[Alarm],
    episodes: Collection[Episode],
    ledgers: Iterable[Ledger],
) -> list[str]:
    """What stands behind a bad count: a line for each lost reading, missed episode and false alarm."""
    alarms = list(alarms)
    lines = [f"lost: {device} {mark}" for device, mark in sorted(_missing(sent, visible, refused), key=str)]
    for ledger in ledgers:
        behind = _lost_by_ledger([ledger], visible, refused)
        if behind:
            lines.append(f"lost: {behind} of {ledger.accepted} records that {ledger.gateway} accepted")
    lines += [
        f"missed: {episode.kind} on {episode.device}, {episode.start_ms} to {episode.end_ms}"
        for episode in episodes
        if not any(_hits(alarm, episode) for alarm in alarms)
    ]
    lines += [
        f"false: {alarm.device} {alarm.metric} at {alarm.at_ms}"
        for alarm in alarms
        if not any(_hits(alarm, episode) for episode in episodes)
    ]
    return lines


def percentile(values: Collection[float], share: float) -> float | None:
    """The nearest-rank percentile, or None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _missing(sent: Iterable[Sent], visible: Iterable[Visible], refused: Iterable[Refused]) -> set[Place]:
    arrived = {item.place for item in visible} | {item.place for item in refused}
    return {item.place for item in sent if item.accepted and item.place not in arrived}


def _lost_by_ledger(ledgers: Iterable[Ledger], visible: Iterable[Visible], refused: Iterable[Refused]) -> int:
    """Records that an agent counts as accepted and the topics do not show: the agents' word against the topics'."""
    arrived: Counter[str] = Counter()
    for ce_id in {item.ce_id for item in visible} | {item.ce_id for item in refused}:
        gateway, colon, _ = ce_id.partition(":")
        if colon and ce_id.count(":") == 3:  # gateway:epoch:number:index, shared with nothing direct
            arrived[gateway] += 1
    return sum(max(0, ledger.accepted - arrived[ledger.gateway]) for ledger in ledgers)


def _doubled(visible: Iterable[Visible], refused: Iterable[Refused]) -> int:
    places: Counter[Place] = Counter()
    ids: Counter[str] = Counter()
    everything: list[Visible | Refused] = [*visible, *refused]
    for item in everything:
        ids[item.ce_id] += 1
        if item.place is not None:
            places[item.place] += 1
    return max(_extra(places.values()), _extra(ids.values()))


def _extra(times: Iterable[int]) -> int:
    return sum(seen - 1 for seen in times)


def _latencies(sent: Iterable[Sent], visible: Iterable[Visible]) -> dict[str, list[float]]:
    """From send to visible, by lane; resent batches count in neither."""
    sent_at = {item.place: item.sent_ms for item in sent}
    lanes: dict[str, list[float]] = defaultdict(list)
    for item in visible:
        if item.place is None or item.resent or item.place not in sent_at:
            continue
        lanes[item.lane].append(float(item.visible_ms - sent_at[item.place]))
    return lanes


def _alarms(alarms: Iterable[Alarm], episodes: Iterable[Episode]) -> tuple[int, int]:
    """(episodes found, alarms that belong to none); several alarms in one episode are one find."""
    by_channel: dict[tuple[str, str], list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_channel[episode.device, episode.metric].append(episode)
    found: set[Episode] = set()
    false_alarms = 0
    for alarm in alarms:
        hit = [episode for episode in by_channel[alarm.device, alarm.metric] if _hits(alarm, episode)]
        found.update(hit[-1:])  # where two could claim it, the later one's onset is what spoke
        false_alarms += not hit
    return len(found), false_alarms


def _hits(alarm: Alarm, episode: Episode) -> bool:
    return (alarm.device, alarm.metric) == (
        episode.device,
        episode.metric,
    ) and episode.start_ms <= alarm.at_ms <= episode.end_ms + GRACE_MS
