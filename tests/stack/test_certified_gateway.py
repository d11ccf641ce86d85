"""A gateway enrolled with a certificate on a whole installation: it speaks by it, and its readings reach Kafka."""

import pytest

from deploy.site import Gateway
from deploy.site.installation import installed
from deploy.site.registry import Registry
from edge_agent import doctor
from edge_agent.config import load_config
from shared.ids import new_device_id
from shared.topics import Kafka
from tests.stack.gateway_kit import NOWHERE, gateway_status
from tests.stack.whole_site import records_of, say, silent, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


async def test_it_speaks_by_its_certificate_and_the_doctor_judges_that_door():
    name, device = new_device_id(), new_device_id()
    async with installed({}, [], "thermometer", silent) as site:
        env = site.stack.env()
        home = site.root / name
        with Registry(env) as registry:
            identity = registry.enrol(name, home / "agent", certificate=True)
            registry.add(device, "thermometer", gateway=name)
        # There is no way in by key: only the door for certificates is left.
        gateway = Gateway(home, identity, NOWHERE, {"HUB_API_URL": env["HUB_API_TLS_URL"]})
        try:
            found = [one async for one in doctor.examine(load_config(gateway.env), canary=False)]
            hub = next(one for one in found if one.check == "hub")
            assert hub.verdict is doctor.Verdict.OK, str(hub)
            assert "accepts the certificate" in hub.found
            gateway.start()
            await say(gateway, device, range(20))

            async def arrived():
                records = await records_of(site, Kafka.NORMALIZED, device)
                return records if len(records) >= 20 else None

            assert len(await until(arrived)) == 20
            assert gateway_status(gateway)["uplink"]["connected"]
            running = [one async for one in doctor.examine(load_config(gateway.env), canary=False)]
            assert any(one.check == "hub" and "certificate accepted" in one.found for one in running)
        finally:
            gateway.stop()
