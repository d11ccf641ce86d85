"""A hub, gateways and registered devices, built and taken down as one.

Each gateway reaches the hub through a `Link` of its own, which can be slowed and cut.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.site.gateway import Gateway
from deploy.site.hub import Hub
from deploy.site.registry import Registry
from deploy.stack import Stack, host
from deploy.stack.link import Link
from shared.config import Secret


@dataclass(slots=True)
class Installation:
    """What runs. `keys`: API key by direct device; `behind`: devices by gateway."""

    root: Path
    stack: Stack
    hub: Hub
    gateways: dict[str, Gateway]
    links: dict[str, Link]
    behind: Mapping[str, Sequence[str]]
    keys: dict[str, Secret]

    @property
    def names(self) -> list[str]:
        """Every gateway and device."""
        return [*self.gateways, *(name for names in self.behind.values() for name in names), *self.keys]


@asynccontextmanager
async def installed(
    behind: Mapping[str, Sequence[str]],
    direct: Sequence[str],
    device_type: str,
    say: Callable[[str], None],
    settings: Mapping[str, str] | None = None,
    unsaved: Collection[str] = (),
) -> AsyncIterator[Installation]:
    """Servers, hub, and everyone registered, below a new directory that is removed at the end.

    The gateways' brokers and agents are not started yet. `say` is told each step; `settings` are environment
    variables for hub and agents alike; `unsaved` are the gateways whose brokers do not save each change.
    """
    settings = dict(settings or {})
    root = host.reachable_temp_dir("site-")
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        say("starting PostgreSQL, Mosquitto and Apache Kafka")
        servers = Stack.open(root, {})
        stack.callback(servers.stop)
        await asyncio.to_thread(servers.start)
        say("starting the hub: registry, ingest, normalizer, detector, forwarder, sink")
        hub = Hub(servers.env() | settings, root / "hub.log")
        stack.callback(hub.stop)
        await asyncio.to_thread(hub.start)
        say(f"enrolling {len(behind)} gateways, registering {sum(map(len, behind.values())) + len(direct)} devices")
        gateways, links, keys = {}, {}, {}
        with Registry(servers.env()) as registry:
            for name, devices in behind.items():
                identity = await asyncio.to_thread(registry.enrol, name, root / name / "agent")
                link = Link("127.0.0.1", servers.mosquitto.port)
                await link.start()
                stack.push_async_callback(link.stop)
                gateway = Gateway(
                    root / name, identity, f"mqtt://127.0.0.1:{link.port}",
                    settings | {"HUB_API_URL": servers.env()["HUB_API_URL"]},
                    save_on_change=name not in unsaved,
                )  # fmt: skip
                stack.callback(gateway.stop)
                gateways[name], links[name] = gateway, link
                for device in devices:
                    await asyncio.to_thread(registry.add, device, device_type, gateway=name)
            for device in direct:
                keys[device] = Secret((await asyncio.to_thread(registry.add, device, device_type)).api_key)
        yield Installation(root, servers, hub, gateways, links, behind, keys)
