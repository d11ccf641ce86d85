"""Where REST listens: plain on loopback, TLS anywhere, from one process.

Promises: a plain door beyond loopback is refused at the start unless a setting says that a proxy ends TLS before it;
a certificate that cannot be used, and a port in use, are mistakes of the configuration, told before anything runs.
Leaves what is answered to `api`.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from control_plane.registry.doors import App
from shared import tls
from shared.config import ConfigError
from shared.errors import Permanent

GRACE_S = 5.0
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One door as configured. `name`: of its setting; `bind`: host:port where it listens, else its URL's own."""

    name: str
    url: str
    bind: str | None = None

    def address(self) -> tuple[str, int]:
        """Host and port to listen on. Raises ValueError if there is none."""
        parts = urlsplit(f"//{self.bind}" if self.bind else self.url)
        if not parts.hostname or parts.port is None:
            raise ValueError("no host and port")
        return parts.hostname, parts.port

    @property
    def secure(self) -> bool:
        """Whether its clients speak TLS."""
        return self.url.startswith("https://")


@dataclass(frozen=True, slots=True)
class Door:
    """A door that listens. `context`: its TLS, or None."""

    wanted: Wanted
    listener: socket.socket
    context: ssl.SSLContext | None


def problems(doors: Sequence[Wanted], *, behind_proxy: bool, certificate: bool) -> list[str]:
    """What stands against opening these doors."""
    found = []
    for door in doors:
        try:
            host, _ = door.address()
            sound = urlsplit(door.url).scheme in _PORTS
        except ValueError:
            sound = False
        if not sound:
            found.append(f"{door.name}: is not http://host:port or https://host:port (or its _BIND not host:port)")
        elif door.secure and not behind_proxy and not certificate:
            found.append(f"{door.name}: https needs HUB_API_CERT_FILE and HUB_API_KEY_FILE")
        elif not door.secure and not behind_proxy and not _loopback(host):
            found.append(
                f"{door.name}: plain HTTP beyond loopback would show every token to the network; serve https, or say"
                " HUB_API_BEHIND_PROXY=true where a proxy in front of it ends TLS"
            )
    return found


def open_doors(
    doors: Sequence[Wanted], cert_file: Path | None, key_file: Path | None, *, behind_proxy: bool
) -> list[Door]:
    """Listen on all. Raises ConfigError for a certificate or an address that cannot be used; none is open then."""
    opened: list[Door] = []
    try:
        for door in doors:
            context = None
            if door.secure and not behind_proxy:
                assert cert_file is not None, "asked by `problems`"
                context = tls.server_context(cert_file, key_file)
            host, port = door.address()
            try:
                listener = socket.create_server((host, port), backlog=1024)
            except OSError as error:
                raise ConfigError([f"{door.name}: {host}:{port} cannot be listened on ({error.strerror})"]) from error
            opened.append(Door(door, listener, context))
    except Permanent as error:
        for one in opened:
            one.listener.close()
        raise error if isinstance(error, ConfigError) else ConfigError([str(error)]) from error
    return opened


async def serve(app: App, doors: Sequence[Door], stopping: asyncio.Event) -> None:
    """Answer at all doors until `stopping`, then end what is under way within GRACE_S."""
    servers = [_server(app, door) for door in doors]
    async with asyncio.TaskGroup() as tasks:
        serving = [
            tasks.create_task(server.serve(sockets=[door.listener]))
            for server, door in zip(servers, doors, strict=True)
        ]
        stop = tasks.create_task(stopping.wait())
        await asyncio.wait([*serving, stop], return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.should_exit = True
        stop.cancel()


class _Server(uvicorn.Server):
    """Leaves signals to `shared.lifecycle`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: App, door: Door) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,  # whoever asks from this machine would choose the address in the audit log
        limit_concurrency=256,
        timeout_graceful_shutdown=int(GRACE_S),
        h11_max_incomplete_event_size=32 * 1024,
    )
    config.load()
    config.ssl = door.context  # ours: uvicorn's own would take neither our versions nor our ciphers
    return _Server(config)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
