"""`hub serve`: every service of the hub as a child of one process.

Promises: what dies is started again (`restart` says when) and is said; what lacks configuration ends the whole with
status 2 instead; no child outlives this process, however it ends; one `hub serve` per HUB_DATA_DIR; SIGTERM reaches
every child, and who does not end within the grace is killed by its pid. Leaves to the services all they do, and to
`status` asking them how they are.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import prometheus_client

from control_plane import restart, run_dir
from control_plane.restart import (
    MISCONFIGURED,
    Died,
    NotStarted,
    Phase,
    Service,
    Start,
    Started,
    Stop,
    Terminate,
    demand,
    step,
)
from shared.config import ConfigError, load, setting
from shared.events import Event, configure_logging
from shared.health import Beat, Health
from shared.lifecycle import run

SERVICES: Mapping[str, tuple[str, ...]] = {
    "api": ("api",),
    "ingest": ("ingest",),
    "normalizer": ("analytics", "normalizer"),
    "detector": ("analytics", "detector"),
    "forwarder": ("analytics", "forwarder"),
    "sink": ("analytics", "sink"),
}
"""What `hub serve` runs: a service's name and its words after `hub`."""

_DATABASE, _KAFKA, _SECRETS = "HUB_DATABASE_URL", "HUB_KAFKA_BOOTSTRAP", "HUB_SERVICE_SECRETS_FILE"
NEEDED: Mapping[str, tuple[str, ...]] = {
    "api": (_DATABASE, _KAFKA, "HUB_MQTT_URL", _SECRETS, "HUB_API_URL"),
    "ingest": (_DATABASE, _KAFKA, "HUB_MQTT_URL", _SECRETS),
    "normalizer": (_KAFKA,),
    "detector": (_KAFKA,),
    "forwarder": (_KAFKA,),
    "sink": (_DATABASE, _KAFKA),
}
"""What each service requires beside HUB_DATA_DIR: said once and before any start, not by six children in six ways.

Written down because to import the services for it would cost this process their libraries; a test compares.
"""

_RESTARTS = prometheus_client.Counter("hub_service_restarts", "Starts after a death", ["service"])
_UP = prometheus_client.Gauge("hub_service_up", "1 while the service's process runs", ["service"])


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What `hub serve` reads itself; its children read the same environment."""

    data_dir: Path = setting("HUB_DATA_DIR", "the hub's own directory")
    health_host: str = setting("HUB_HEALTH_HOST", "where /metrics and /readyz listen", default="127.0.0.1")
    health_base_port: int = setting(
        "HUB_HEALTH_BASE_PORT",
        "the supervisor's health port, its services' follow in the order of `hub status`; 0: free ones",
        default=0,
    )
    stop_grace_s: float = setting("HUB_STOP_GRACE_S", "seconds that a service may take to end", default=15.0)
    log_level: str = setting("HUB_LOG_LEVEL", "debug, info, warning or error", default="info")


@dataclass(frozen=True, slots=True)
class ServiceStarted(Event):
    """A service's process runs."""

    service: str
    pid: int
    restarts: int

    def measure(self) -> None:
        _UP.labels(self.service).set(1)


@dataclass(frozen=True, slots=True)
class ServiceDied(Event):
    """A service ended by itself; it is started again after `again_in_s`."""

    LEVEL = logging.ERROR
    service: str
    pid: int
    ended: str
    again_in_s: float

    def measure(self) -> None:
        _UP.labels(self.service).set(0)
        _RESTARTS.labels(self.service).inc()


@dataclass(frozen=True, slots=True)
class ServiceUnfit(Event):
    """A service ended at once for want of configuration, and said of what; all others are ended too."""

    LEVEL = logging.ERROR
    service: str
    pid: int

    def measure(self) -> None:
        _UP.labels(self.service).set(0)


@dataclass(frozen=True, slots=True)
class ServiceNotStarted(Event):
    """The system would not make a service's process; it is tried again after `again_in_s`."""

    LEVEL = logging.ERROR
    service: str
    error: str
    again_in_s: float


@dataclass(frozen=True, slots=True)
class ServiceKilled(Event):
    """A service did not end within the grace after SIGTERM."""

    LEVEL = logging.ERROR
    service: str
    pid: int
    grace_s: float


@dataclass(frozen=True, slots=True)
class Serving(Event):
    """All services have been started once."""

    pid: int
    services: int


class Child:
    """One service: does what its state demands. `changed` is called after each change of state."""

    def __init__(
        self, name: str, argv: Sequence[str], config: ServeConfig, port: int, changed: Callable[[], None]
    ) -> None:
        self.name = name
        self.state = Service()
        self.health_port = port
        self._argv = tuple(argv)
        self._host = config.health_host
        self._grace_s = config.stop_grace_s
        self._any_port = port == 0
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The running process's, or None."""
        return self._process.pid if self._process is not None else None

    async def live(self, stopping: asyncio.Event) -> None:
        """Until `stopping`; then end the process, by SIGKILL if it takes longer than the grace.

        Returns before `stopping` if the service is unfit.
        """
        while self.state.phase is not Phase.ENDED:
            match demand(self.state):
                case Start(at_s):
                    if await _set_within(stopping, at_s - time.monotonic()):
                        self._step(Stop())
                    else:
                        self._try_start()
                case Terminate():
                    await self._terminate()
                    self._bury()
                case None:
                    await _first(self._ended, stopping)
                    if self._ended.is_set():
                        self._bury()
                    else:
                        self._step(Stop())

    def _start(self) -> None:
        if self._any_port:
            self.health_port = _free_port(self._host)  # anew each time: somebody may have taken the last one
        # Not asyncio's: the kernel's parent-death signal follows the thread that starts the child, and this is the
        # main one. A group of its own keeps the terminal's Ctrl-C from it: it hears of the end from us.
        process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"HUB_SUPERVISOR_PID": str(os.getpid()), "HUB_HEALTH_PORT": str(self.health_port)},
            process_group=0,
        )
        try:
            handle = os.pidfd_open(process.pid)
        except OSError:
            process.kill()  # nobody would see its end
            process.wait()
            raise
        self._process = process
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(handle)
            os.close(handle)
            self._ended.set()

        self._ended.clear()
        loop.add_reader(handle, ended)
        self._step(Started(time.monotonic()))
        ServiceStarted(self.name, process.pid, self.state.restarts).emit()

    def _try_start(self) -> None:
        try:
            self._start()
        except OSError as error:
            now = time.monotonic()
            self._step(NotStarted(now))
            ServiceNotStarted(self.name, str(error), round(self.state.at_s - now, 3)).emit()

    async def _terminate(self) -> None:
        assert self._process is not None
        self._process.terminate()
        if not await _set_within(self._ended, self._grace_s):
            ServiceKilled(self.name, self._process.pid, self._grace_s).emit()
            self._process.kill()
            await self._ended.wait()

    def _bury(self) -> None:
        assert self._process is not None
        status, pid = self._process.wait(), self._process.pid
        self._process = None
        now = time.monotonic()
        self._step(Died(now, status))
        if self.state.phase is Phase.WAITING:
            ServiceDied(self.name, pid, _ending(status), round(self.state.at_s - now, 3)).emit()
        elif self.state.unfit:
            ServiceUnfit(self.name, pid).emit()

    def _step(self, event: restart.Event) -> None:
        self.state = step(self.state, event)
        self._changed()


class Supervisor:
    """All children, and the file that `hub status` reads."""

    def __init__(self, config: ServeConfig, services: Mapping[str, Sequence[str]]) -> None:
        base = config.health_base_port
        self._config = config
        self.children = [
            Child(name, argv, config, base + number if base else 0, self._write)
            for number, (name, argv) in enumerate(services.items(), start=1)
        ]

    def readiness(self) -> list[str]:
        """Which services do not run at this moment."""
        return [f"{child.name} does not run" for child in self.children if child.state.phase is not Phase.RUNNING]

    def run(self, beat: Callable[[], None]) -> int:
        """Until SIGTERM or SIGINT, or until a service proves unfit; the exit status."""
        self._write()
        Serving(os.getpid(), len(self.children)).emit()
        try:
            services = {child.name: child.live for child in self.children}
            status = run(services, grace_s=self._config.stop_grace_s + 5.0, beat=beat)
            return MISCONFIGURED if any(child.state.unfit for child in self.children) else status
        finally:
            run_dir.forget(self._config.data_dir)

    def _write(self) -> None:
        services = [
            {
                "name": child.name,
                "pid": child.pid,
                "phase": child.state.phase,
                "restarts": child.state.restarts,
                "health_port": child.health_port,
            }
            for child in self.children
        ]
        state = {"pid": os.getpid(), "health_host": self._config.health_host, "services": services}
        run_dir.write(self._config.data_dir, state)


def serve(config: ServeConfig, services: Mapping[str, Sequence[str]]) -> int:
    """Run all `services` (name: command line) until told to stop; the exit status. Raises run_dir.AlreadyServed."""
    configure_logging(config.log_level)
    with run_dir.alone(config.data_dir):
        supervisor = Supervisor(config, services)
        beat = Beat()
        health = Health(config.health_host, config.health_base_port, supervisor.readiness, beat=beat)
        try:
            return supervisor.run(beat.stamp)
        finally:
            health.close()


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `serve`."""
    parser = commands.add_parser(
        "serve",
        help="run all services in one process tree",
        description="Run all services in one process tree and start again what dies. One per HUB_DATA_DIR.",
        epilog="example: hub serve --without forwarder",
    )
    parser.add_argument("--without", action="append", default=[], choices=list(SERVICES), help="leave a service out")
    parser.set_defaults(run=_serve)


def _serve(args: argparse.Namespace) -> int:
    hub = (sys.executable, "-m", "control_plane")
    services = {name: (*hub, *words) for name, words in SERVICES.items() if name not in args.without}
    return serve(_configuration(services, os.environ), services)


def _configuration(services: Iterable[str], env: Mapping[str, str]) -> ServeConfig:
    """Raises ConfigError with all that `hub serve` or one of `services` lacks."""
    wanted: dict[str, list[str]] = {}
    for service in services:
        for variable in NEEDED[service]:
            wanted.setdefault(variable, []).append(service)
    mistakes = [
        f"{variable}: missing (for {', '.join(who)})" for variable, who in wanted.items() if variable not in env
    ]
    try:
        config = load(ServeConfig, env)
    except ConfigError as error:
        raise ConfigError(error.mistakes + mistakes) from None
    if mistakes:
        raise ConfigError(mistakes)
    return config


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _first(*waited: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in waited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _ending(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
