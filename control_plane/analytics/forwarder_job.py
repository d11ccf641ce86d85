"""`hub analytics forwarder`: the process that runs the InventoryAdjustmentForwarder."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from control_plane.analytics import runner
from control_plane.analytics.forwarder import Forwarder
from control_plane.analytics.forwarder_events import READINGS, ForwardingFailed, ReadingUnreadable, StockChanged
from control_plane.analytics.job import Incoming, Output, State, Writer, header
from control_plane.analytics.job_config import JobConfig
from control_plane.analytics.pseudonym_key import read_pseudonym_key
from control_plane.analytics.records import EventType, decode_reading
from control_plane.analytics.rules import Rules
from control_plane.analytics.rules_file import RulesFile
from shared import config as configuration
from shared.clock import SystemClock
from shared.config import setting
from shared.events import configure_logging
from shared.fault import place_of
from shared.pseudonym import pseudonym
from shared.topics import Kafka
from shared.tracing import Tracing, open_tracing

NAME = "forwarder"
SOURCE = "/analytics/forwarder"
_STOCK = Writer(Kafka.STOCK, EventType.STOCK, SOURCE)


@dataclass(frozen=True, slots=True)
class ForwarderConfig(JobConfig):
    """`hub analytics forwarder`."""

    rules_file: Path | None = setting(
        "HUB_INVENTORY_RULES_FILE", "the inventory rules, TOML or JSON; none: nothing is forwarded", default=None
    )
    pseudonym_key_file: Path | None = setting(
        "HUB_PSEUDONYM_KEY_FILE", "the pseudonyms' key; default pseudonym.key in HUB_DATA_DIR", default=None
    )


class ForwarderJob:
    """The forwarder as a stream job: counts, traces, and never lets one record stop the flow.

    What it writes leaves the IoT domain, so nothing of it names a device: key, subject and id bear the pseudonym.
    """

    source = Kafka.NORMALIZED
    sinks = (Kafka.STOCK,)

    def __init__(self, rules: Callable[[], Rules], pseudonym_key: bytes, tracing: Tracing) -> None:
        self._forwarder = Forwarder(rules, lambda device_id: pseudonym(pseudonym_key, device_id))
        self._tracing = tracing

    def on_record(self, record: Incoming, state: State) -> Iterable[Output]:
        """The changes of stock that one record of `normalized` leads to."""
        if header(record, "ce_type") != EventType.READING:
            return ()
        began_ns = time.time_ns()
        try:
            reading = decode_reading(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            ReadingUnreadable(record.partition, record.offset, type(error).__name__).emit()
            return ()
        try:
            found = self._forwarder.forward(reading, state)
        except Exception as error:  # noqa: BLE001 - whatever it is, its event tells where
            # The reading itself is safe in its topic; standing still would end forwarding for everybody.
            state.discard()
            ForwardingFailed(record.partition, record.offset, place_of(error)).emit()
            return ()
        READINGS.inc()
        parent = header(record, "traceparent")
        if parent is not None and self._tracing.enabled:
            parent = self._tracing.stage("forward", parent, began_ns, time.time_ns(), {"adjustments": len(found)})
        outputs = []
        for change, ce_id in found:
            StockChanged(change.source_pseudonym, change.sku, change.location, change.delta).emit()
            outputs.append(_STOCK(ce_id, change.source_pseudonym, change.occurred_at, change, parent))
        return outputs

    def instead_of(self, record: Incoming, output: Output) -> Output | None:
        """Nothing: what is written here has a bounded size, by the limits of a reading and of the rules."""
        del record, output
        return None


def main(env: Mapping[str, str]) -> int:
    """Run until a signal; the exit status. Raises ConfigError."""
    config = configuration.load(ForwarderConfig, env)
    key = read_pseudonym_key(config.data_dir, config.pseudonym_key_file)
    configure_logging(config.log_level)
    rules = RulesFile(config.rules_file, SystemClock())
    tracing = open_tracing("hub-forwarder", env)
    try:
        return runner.run(NAME, config, ForwarderJob(rules.rules, key, tracing))
    finally:
        tracing.close()
