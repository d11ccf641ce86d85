"""One noisy gateway on a whole installation: it is slowed down, loses nothing, and its sibling notices nothing."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from control_plane.analytics.records import text_ms
from deploy.site.installation import installed
from edge_agent.mqtt import Connection, Options
from shared.config import read_secret
from shared.ids import new_device_id
from shared.topics import Channel, Kafka, build
from tests.stack.whole_site import payload, records_of, silent, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

NOISY, QUIET = 1_000, 80
READINGS_PER_S = 20.0
LATE_MS = 10_000
"""Far above what the quiet one's readings take, far below what they would wait behind the noisy one's."""


async def limited(site, gateway):
    """A limit of its own, by REST."""
    env = site.stack.env()
    token = read_secret(Path(env["HUB_ADMIN_TOKEN_FILE"]))
    async with httpx.AsyncClient(base_url=env["HUB_API_URL"], headers={"Authorization": f"Bearer {token}"}) as rest:
        shown = await rest.get(f"/v1/devices/{gateway}")
        body = {"limits": {"readings_per_s": READINGS_PER_S}}
        done = await rest.patch(f"/v1/devices/{gateway}", json=body, headers={"If-Match": shown.headers["etag"]})
        assert done.status_code == 200, done.text


async def speaks(gateway, device, count, pause_s=0.0):
    async with Connection(Options(gateway.broker.url, device)) as connection:
        for n in range(count):
            assert await connection.publish(build(Channel.TELEMETRY, device), payload(n)) == 0
            await asyncio.sleep(pause_s)


async def test_a_noisy_gateway_is_slowed_down_and_its_sibling_is_unharmed():
    noisy, quiet, loud, calm = (new_device_id() for _ in range(4))
    behind = {noisy: [loud], quiet: [calm]}
    async with installed(behind, [], "thermometer", silent, unsaved=[noisy, quiet]) as site:
        await limited(site, noisy)
        for gateway in site.gateways.values():
            gateway.start()
        began = time.monotonic()
        await asyncio.gather(
            speaks(site.gateways[noisy], loud, NOISY),
            speaks(site.gateways[quiet], calm, QUIET, pause_s=0.1),
        )

        async def all_of(device, count):
            found = await records_of(site, Kafka.NORMALIZED, device)
            return found if len(found) >= count else None

        calm_records = await until(lambda: all_of(calm, QUIET))
        late_ms = [
            text_ms(record.json()["received_at"]) - text_ms(record.json()["accepted_at"]) for record in calm_records
        ]
        assert sorted(record.json()["metrics"]["n"] for record in calm_records) == list(range(QUIET))
        assert max(late_ms) < LATE_MS, "from the sibling's acceptance to the hub"
        loud_records = await until(lambda: all_of(loud, NOISY), within_s=180.0)
        took_s = time.monotonic() - began
        assert sorted(record.json()["metrics"]["n"] for record in loud_records) == list(range(NOISY))
        assert await records_of(site, Kafka.REJECTED, loud) == []
        assert await records_of(site, Kafka.REJECTED, noisy) == []
        assert await records_of(site, Kafka.CONDUCT, noisy) == [], "who obeys is accused of nothing"
        assert '"hint_taken"' in site.gateways[noisy].log_path.read_text()
        assert '"hint_taken"' not in site.gateways[quiet].log_path.read_text()
        # Ten seconds' worth at once, then its rate: without the hint it is all there as fast as it was said.
        assert took_s > (NOISY - 10 * READINGS_PER_S) / READINGS_PER_S / 2
