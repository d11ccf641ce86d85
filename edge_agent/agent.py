"""The agent's process: builds every part, runs them together, ends them in order.

Promises: it starts without the hub and without the local broker, and says on /readyz what is missing; the hub is
shown (/status) but not needed, since taking and keeping readings is the work. SIGTERM: intake commits and
acknowledges what it took, models are saved, then the outbox is closed. Imported by nobody but `edge_agent.__main__`.
"""

import ctypes
import functools
import gc
import os
from collections.abc import Callable, Mapping

from edge_agent import account, health_readings, status
from edge_agent.certificate_renewal import Identity, Renewal
from edge_agent.clock_watch import ClockWatch
from edge_agent.config import VERSION, AgentConfig
from edge_agent.device_book import passes_all
from edge_agent.device_desk import DeviceDesk
from edge_agent.events import AgentStarted, AgentStopped
from edge_agent.hub_call import Hub, call
from edge_agent.hub_link import HubLink, LinkSettings
from edge_agent.intake import Intake
from edge_agent.key_files import KeyFiles
from edge_agent.key_keeper import KeyKeeper
from edge_agent.learning import Learning, open_scorer
from edge_agent.local_broker_file import LocalBrokerFile
from edge_agent.mqtt import Options
from edge_agent.notes import Notes
from edge_agent.outbox_writer import OutboxWriter, Settings
from edge_agent.pipeline import Pipeline
from edge_agent.running import Claim, Running
from edge_agent.skew import SkewBook
from edge_agent.uplink_state import Limits
from shared import limits
from shared.clock import Clock, SystemClock
from shared.config import read_secret_line
from shared.errors import Permanent
from shared.events import configure_logging
from shared.health import Beat, Health
from shared.ids import DeviceId
from shared.lifecycle import Service
from shared.lifecycle import run as run_services
from shared.tracing import Tracing, open_tracing

_M_ARENA_MAX = -8
"""malloc.h"""


class Agent:
    """Every part of one gateway's agent, built and not yet started."""

    def __init__(self, config: AgentConfig, tracing: Tracing, clock: Clock | None = None) -> None:
        """Opens the outbox and the models. Raises HubError where the agent cannot work at all."""
        self._config = config
        self._clock = clock or SystemClock()
        ca_file = str(config.hub_ca_file) if config.hub_ca_file else None
        api = Hub(config.hub_api_url, ca_file) if config.hub_api_url else None
        self.keys = KeyKeeper(KeyFiles(config.key_file), api, config.key_check_s)
        self.notes = Notes(config.agent_id, self._clock)
        self.writer = OutboxWriter(_outbox_settings(config), self._clock, self.notes.say)
        self.writer.start()
        self.desk = _desk(config, self.writer)
        skew = SkewBook()
        learning_from = None
        scorer = None
        if config.scoring:
            scorer, learning_from = open_scorer(config.models_path, config.model, config.max_channels)
        pipeline = Pipeline(skew, scorer, unscored=config.unscored, alarm_statuses=config.alarm_statuses)
        self.clock_watch = ClockWatch(self._clock, skew, self.writer.correct_clock, self.notes.say)
        self.intake = Intake(
            Options(
                config.local_mqtt_url,
                f"_agent-{config.agent_id}",
                session=True,
                receive_maximum=config.receive_maximum,
            ),
            pipeline,
            self.writer,
            clock=self._clock,
            tracing=tracing,
            quality=lambda: self.clock_watch.quality,
            gate=self.desk.gate if self.desk is not None else passes_all,
            following=self.writer.held_at_start,
        )
        certified = config.certified
        link = LinkSettings(
            config.hub_mtls_url if certified and config.hub_mtls_url else config.hub_mqtt_url,
            DeviceId(config.agent_id),
            ca_file=ca_file,
            cert_file=str(config.cert_file) if certified else None,
            cert_key_file=str(config.cert_key_file) if certified and config.cert_key_file else None,
            version=VERSION,
            first_delay_s=config.first_connect_s,
        )
        self.hub = HubLink(
            link,
            self.writer,
            self._clock,
            keys=None if certified else self.keys,
            nudged=self._nudged if api is not None else None,
        )
        self._renewal = _renewal(config, api, self.keys, self._clock)
        self._learning = (
            Learning(scorer, learning_from, pipeline, config.models_save_s) if scorer is not None else None
        )

    def services(self) -> dict[str, Service]:
        """What runs until the agent is stopped, by name."""
        config = self._config
        services: dict[str, Service] = {
            "outbox": self.writer.watch,
            "intake": self.intake.serve,
            "hub": self.hub.serve,
            "key": self.keys.serve,
            "clock": self.clock_watch.serve,
            "notes": functools.partial(self.notes.serve, submit=self.writer.submit),
        }
        if config.health_readings_s:
            services["health readings"] = functools.partial(
                health_readings.serve,
                gateway=config.agent_id,
                offer=self.intake.offer,
                clock=self._clock,
                data_dir=config.data_dir,
                every_s=config.health_readings_s,
            )
        if self._renewal is not None:
            services["certificate"] = self._renewal.serve
        if self.desk is not None:
            services["devices"] = self.desk.serve
        if self._learning is not None:
            services["learning"] = self._learning.serve
        return services

    def _nudged(self) -> None:
        """The hub has news of this gateway's devices or of its key."""
        self.keys.look()
        if self.desk is not None:
            self.desk.nudge()

    def missing(self) -> list[str]:
        """What stands in the way of taking and keeping readings."""
        hung = self.writer.beat.hung()
        stored = f"the outbox {hung}" if hung else self.intake.store_trouble or self.writer.trouble
        return [trouble for trouble in (self.intake.trouble, stored) if trouble is not None]

    def pages(self) -> Mapping[str, Callable[[], object]]:
        """What the commands read."""
        return {account.PAGE: lambda: account.page(self.writer.ledger()), status.PAGE: self._status}

    def _status(self) -> object:
        return {
            "uplink": {"connected": self.hub.connected, "trouble": self.hub.trouble},
            "clock": self.clock_watch.quality.value,
            "key": self.keys.phase.value,
        }


def run(config: AgentConfig, env: Mapping[str, str]) -> int:
    """Be the agent until SIGTERM; the exit status. Raises HubError if it cannot start."""
    configure_logging(config.log_level)
    _share_one_heap()
    tracing = open_tracing("edge-agent", env)
    with Claim(config.data_dir) as claim:
        agent = Agent(config, tracing)
        try:
            beat = Beat()
            health = _health(config, agent, beat)
            claim.announce(Running(os.getpid(), config.health_host, health.port))
            AgentStarted(config.model if config.scoring else "off", health.port).emit()
            # What was built lives as long as the process: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            try:
                code = run_services(agent.services(), beat=beat.stamp)
            finally:
                health.close()
        finally:
            agent.writer.stop()
            tracing.close()
    AgentStopped().emit()
    return code


def _share_one_heap() -> None:
    """Before any thread is started: glibc gives each a heap of its own (mallopt(3)), 0.8 MB of ours in all."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and no such heaps
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def _outbox_settings(config: AgentConfig) -> Settings:
    budget = config.outbox_max_mib * limits.MIB
    return Settings(
        config.outbox_path,
        budget_bytes=budget,
        commit_every_s=config.commit_every_ms / 1_000,
        free_floor_bytes=config.disk_floor_mib * limits.MIB,
        expire_after_s=config.expire_after_s,
        uplink=Limits(replay_per_s=config.replay_per_s),
    )


def _renewal(config: AgentConfig, api: Hub | None, keys: KeyKeeper, clock: Clock) -> Renewal | None:
    if config.cert_file is None or config.cert_key_file is None or api is None:
        return None
    return Renewal(Identity(config.cert_file, config.cert_key_file, keys.bearer), api, clock)


def _desk(config: AgentConfig, writer: OutboxWriter) -> DeviceDesk | None:
    """None where the hub is not to be asked."""
    if config.hub_api_url is None:
        return None
    hub = Hub(config.hub_api_url, str(config.hub_ca_file) if config.hub_ca_file else None)
    return DeviceDesk(
        config.agent_id,
        config.data_dir,
        functools.partial(call, hub),
        lambda: read_secret_line(config.key_file),
        writer,
        every_s=config.devices_every_s,
        lan=LocalBrokerFile(config.lan_dir, config.lan_restart_command) if config.lan_dir is not None else None,
    )


def _health(config: AgentConfig, agent: Agent, beat: Beat) -> Health:
    try:
        return Health(config.health_host, config.health_port, agent.missing, agent.pages(), beat=beat)
    except OSError as error:
        raise Permanent(
            f"health cannot be served on {config.health_host}:{config.health_port}: {error.strerror}",
            hint="set AGENT_HEALTH_PORT to a free one (0 takes any)",
        ) from error
