"""TLS doors and gateways' certificates on a real broker, a real API and a real Postgres.

The API itself reaches the broker over TLS here, and is asked over TLS.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from control_plane.registry.pki.ca import Authority
from control_plane.registry.pki.ca_files import CaFiles, load
from deploy.stack import host, tls
from deploy.stack.mosquitto import Mosquitto
from shared.tls import client_context
from tests.stack.registry.conftest import DEADLINE_S, Api

pytestmark = pytest.mark.stack

CUT_OFF_S = 1.0


@pytest.fixture
def broker_server(server_dir: Path) -> Iterator[Mosquitto]:
    server = Mosquitto(server_dir, host.free_port(), tls.Doors(host.free_port(), host.free_port()))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def secure(environment: dict[str, str], broker_server: Mosquitto) -> dict[str, str]:
    """The environment with every door's TLS."""
    assert broker_server.doors is not None
    hub = broker_server.root / "hub"
    tls.prepare_api(hub)
    return environment | {
        "HUB_MQTT_URL": f"mqtts://127.0.0.1:{broker_server.doors.keys}",
        "HUB_MQTT_MTLS_URL": f"mqtts://127.0.0.1:{broker_server.doors.certificates}",
        "HUB_API_TLS_URL": f"https://127.0.0.1:{host.free_port()}",
        "HUB_API_CERT_FILE": str(hub / tls.API_CERTIFICATE),
        "HUB_API_KEY_FILE": str(hub / tls.API_KEY),
        "HUB_CA_FILE": str(hub / "ca.pem"),
        "HUB_CA_KEY_FILE": str(hub / "ca.key"),
        "HUB_CRL_FILE": str(broker_server.crl_file),
        "HUB_BROKER_PID_FILE": str(broker_server.pid_file),
    }


@pytest.fixture
def api(secure: dict[str, str]) -> Iterator[Api]:
    running = Api(secure)
    running.rest.close()
    token = Path(secure["HUB_ADMIN_TOKEN_FILE"]).read_text().strip()
    running.rest = httpx.Client(
        base_url=secure["HUB_API_TLS_URL"],
        headers={"Authorization": f"Bearer {token}"},
        timeout=DEADLINE_S,
        verify=client_context(secure["HUB_CA_FILE"]),
    )
    running.start()
    yield running
    running.close()


def csr(key: ec.EllipticCurvePrivateKey, name: str = "x") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class Gateway:
    """A registered gateway with a certificate."""

    def __init__(self, api: Api, name: str, folder: Path) -> None:
        self.api, self.id, self._folder = api, name, folder
        answer = api.add(name, kind="gateway")
        assert answer.status_code == 201, answer.text
        self.api_key: str = answer.json()["api_key"]
        self.key = ec.generate_private_key(ec.SECP256R1())
        issued = self.ask()
        assert issued.status_code == 201, issued.text
        self.certificate: str = issued.json()["certificate_pem"]

    def ask(self) -> httpx.Response:
        """A certificate by the gateway's key, for its present key pair."""
        return self.api.rest.post(
            "/v1/self/certificates",
            json={"csr": csr(self.key, "somebody-else")},
            headers={"Authorization": f"Bearer {self.api_key}"},
        )

    def renewal(self, key: ec.EllipticCurvePrivateKey, request: str) -> httpx.Response:
        """A renewal for `request`, signed by `key`."""
        signature = base64.b64encode(key.sign(request.encode(), ec.ECDSA(hashes.SHA256()))).decode()
        body = {"csr": request, "certificate": self.certificate, "signature": signature}
        return self.api.rest.post("/v1/self/certificates:renew", json=body, headers={"Authorization": ""})

    def file(self) -> Path:
        """Certificate and key in one."""
        path = self._folder / f"{self.id}.pem"
        path.write_text(self.certificate + pem(self.key))
        return path


def visitor(env: dict[str, str], client_id: str, cert: Path | None, **more: Any) -> aiomqtt.Client:
    url = more.pop("url", env["HUB_MQTT_MTLS_URL"])
    context = more.pop("context", None) or client_context(env["HUB_CA_FILE"], cert)
    return aiomqtt.Client(
        "127.0.0.1",
        int(url.rpartition(":")[2]),
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=context,
        timeout=10,
        **more,
    )


async def gets_in(client: aiomqtt.Client) -> bool:
    """Whether it connects; its session is ended at once."""
    try:
        async with client:
            await client.publish("gateways/x/none", b"", qos=0)
            return True
    except aiomqtt.MqttError:
        return False
    finally:
        client._client._reset_sockets()  # which the library leaves open after a failed start
        if client._disconnected.done() and not client._disconnected.cancelled():
            client._disconnected.exception()  # looked at: the library leaves it, and complains of that itself


@contextlib.asynccontextmanager
async def connected(client: aiomqtt.Client) -> AsyncIterator[Callable[[], bool]]:
    """A session that listens; whether it still stands."""

    async def listen() -> None:
        async for _ in client.messages:
            pass

    with contextlib.suppress(aiomqtt.MqttError):
        async with client:
            listening = asyncio.create_task(listen())
            try:
                yield lambda: not listening.done()
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


async def reason(client: aiomqtt.Client, topic: str) -> int:
    """The PUBACK's reason for a publish to this topic."""
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with client:
        client._client.on_publish = lambda _c, _u, _m, code, _p: answered.set_result(code.value)
        client._client.publish(topic, b"x", 1)
        return await asyncio.wait_for(answered, 10)


async def test_a_certificate_lets_a_gateway_in_as_itself_alone(
    api: Api, secure: dict[str, str], device_id: Callable[[], str], tmp_path: Path
) -> None:
    gateway, other = (Gateway(api, device_id(), tmp_path) for _ in range(2))
    assert await reason(visitor(secure, gateway.id, gateway.file()), f"gateways/{gateway.id}/batches") in (0, 0x10)
    # Whatever client id and user name it says, it is what its certificate says.
    for name in (other.id, "_ingest", "_registry"):
        assert await reason(visitor(secure, name, gateway.file()), f"gateways/{other.id}/batches") == 0x87
        assert await reason(visitor(secure, name, gateway.file()), "$CONTROL/dynamic-security/v1") == 0x87
    named = visitor(secure, gateway.id, gateway.file(), username="_registry", password="guess")
    assert await reason(named, "$CONTROL/dynamic-security/v1") == 0x87


async def test_who_does_not_get_in(
    api: Api, secure: dict[str, str], device_id: Callable[[], str], tmp_path: Path
) -> None:
    gateway = Gateway(api, device_id(), tmp_path)
    authority = load(CaFiles(Path(secure["HUB_CA_KEY_FILE"]), Path(secure["HUB_CA_FILE"])))
    now = dt.datetime.now(dt.UTC)
    key_id, _, secret = gateway.api_key.partition(".")
    by_key = {"username": key_id, "password": secret}

    def file(name: str, issuer: Authority, at: dt.datetime) -> Path:
        path = tmp_path / f"{name}.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        path.write_text(issuer.issue_client(gateway.id, key.public_key(), at, dt.timedelta(days=1)).pem + pem(key))
        return path

    server = authority.issue_server(("localhost",), now)
    (tmp_path / "server.pem").write_text(server.certificate + server.key)
    keys_url = secure["HUB_MQTT_URL"]
    assert await gets_in(visitor(secure, gateway.id, gateway.file()))
    assert await gets_in(visitor(secure, gateway.id, None, url=keys_url, **by_key))
    assert await gets_in(visitor(secure, gateway.id, gateway.file(), url=keys_url, **by_key))  # shown, not asked for
    refused = {
        "no certificate": visitor(secure, gateway.id, None),
        "no certificate, a good key": visitor(secure, gateway.id, None, **by_key),
        "a certificate at the door for keys": visitor(secure, gateway.id, gateway.file(), url=keys_url),
        "expired": visitor(secure, gateway.id, file("old", authority, now - dt.timedelta(days=3))),
        "not valid yet": visitor(secure, gateway.id, file("new", authority, now + dt.timedelta(days=3))),
        "of another CA": visitor(secure, gateway.id, file("other", Authority.create(now), now)),
        "a server's certificate": visitor(secure, gateway.id, tmp_path / "server.pem"),
        "the record that closes its session": visitor(secure, gateway.id, None, url=keys_url, username=gateway.id),
        "plain": aiomqtt.Client("127.0.0.1", int(keys_url.rpartition(":")[2]), timeout=3, identifier="x"),
    }
    for words, client in refused.items():
        assert not await gets_in(client), words
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = client_context(secure["HUB_CA_FILE"], gateway.file())
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    port = int(secure["HUB_MQTT_MTLS_URL"].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.parametrize("how", ["revoked", "stolen", "suspended"])
async def test_who_is_cut_off_goes_within_a_second_and_cannot_come_back(
    api: Api, secure: dict[str, str], device_id: Callable[[], str], tmp_path: Path, how: str
) -> None:
    gateway, other = (Gateway(api, device_id(), tmp_path) for _ in range(2))
    mine, theirs = visitor(secure, gateway.id, gateway.file()), visitor(secure, other.id, other.file())
    path, body = {
        "revoked": (f"/v1/devices/{gateway.id}/certificates:revoke", {}),
        "stolen": (f"/v1/devices/{gateway.id}:revoke", {"reason": "stolen"}),
        "suspended": (f"/v1/devices/{gateway.id}:suspend", {}),
    }[how]
    async with connected(mine) as standing, connected(theirs) as others_standing:
        started = time.monotonic()
        answer = await asyncio.to_thread(lambda: api.rest.post(path, json=body))
        assert answer.status_code == 200, answer.text
        while standing():
            assert time.monotonic() - started < CUT_OFF_S, "still connected"
            await asyncio.sleep(0.005)
        for _ in range(3):
            assert not await gets_in(visitor(secure, gateway.id, gateway.file()))
        assert others_standing()
        assert await gets_in(visitor(secure, f"{other.id}", other.file()))
    if how == "revoked":  # its key is good, so it can have a new one
        gateway.certificate = gateway.ask().json()["certificate_pem"]
        assert await gets_in(visitor(secure, gateway.id, gateway.file()))
    elif how == "suspended":
        assert api.rest.post(f"/v1/devices/{gateway.id}:resume", json={}).status_code == 200
        assert await gets_in(visitor(secure, gateway.id, gateway.file()))


async def test_the_revoked_stay_out_over_a_restart_of_broker_and_hub(
    api: Api, secure: dict[str, str], broker_server: Mosquitto, device_id: Callable[[], str], tmp_path: Path
) -> None:
    gateway = Gateway(api, device_id(), tmp_path)
    broker_server.stop()
    answer = api.rest.post(f"/v1/devices/{gateway.id}/certificates:revoke", json={})
    assert answer.json() == {"revoked": 1, "broker_told": False}
    broker_server.start()
    assert not await gets_in(visitor(secure, gateway.id, gateway.file()))
    broker_server.crl_file.unlink()  # a broker's home restored from an older backup
    api.stop()
    api.start()
    await asyncio.to_thread(lambda: _until(broker_server.crl_file.exists))
    assert not await gets_in(visitor(secure, gateway.id, gateway.file()))


def test_a_renewal_needs_the_present_certificates_key(api: Api, device_id: Callable[[], str], tmp_path: Path) -> None:
    gateway, thief = (Gateway(api, device_id(), tmp_path) for _ in range(2))
    fresh = ec.generate_private_key(ec.SECP256R1())
    asked = csr(fresh)
    assert gateway.renewal(thief.key, asked).status_code == 401
    assert gateway.renewal(fresh, asked).status_code == 401
    renewed = gateway.renewal(gateway.key, asked)
    assert renewed.status_code == 201
    assert renewed.json()["subject"] == gateway.id
    found = x509.load_pem_x509_certificate(renewed.json()["certificate_pem"].encode())
    assert found.public_key() == fresh.public_key()
    api.rest.post(f"/v1/devices/{gateway.id}/certificates:revoke", json={})
    assert gateway.renewal(gateway.key, asked).status_code == 401


def test_who_gets_no_certificate(api: Api, device_id: Callable[[], str], tmp_path: Path) -> None:
    device = api.add(device_id()).json()
    asked = {"csr": csr(ec.generate_private_key(ec.SECP256R1()))}
    by_device = api.rest.post(
        "/v1/self/certificates", json=asked, headers={"Authorization": f"Bearer {device['api_key']}"}
    )
    assert by_device.status_code == 422
    assert "only gateways" in by_device.json()["detail"]
    nobody = api.rest.post("/v1/self/certificates", json=asked, headers={"Authorization": "Bearer k:none.x"})
    assert nobody.status_code == 401
    gateway = Gateway(api, device_id(), tmp_path)
    bad = api.rest.post(
        "/v1/self/certificates", json={"csr": "x"}, headers={"Authorization": f"Bearer {gateway.api_key}"}
    )
    assert bad.status_code == 422
    log = api.log.read_text()
    assert gateway.id not in log
    assert "PRIVATE" not in log
    audit = api.rest.get("/v1/audit", params={"action": "certificate.issue"}).json()
    assert [entry["target"] for entry in audit["entries"]] == [gateway.id]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
