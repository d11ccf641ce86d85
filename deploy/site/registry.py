"""The registry as a client sees it: REST with the admin token."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from shared.config import Secret, read_secret
from shared.errors import Permanent

_ENROL_S = 60


@dataclass(frozen=True, slots=True)
class Identity:
    """A registered device or gateway and its key, shown once."""

    id: str
    key_id: str
    secret: Secret = field(repr=False)

    @property
    def api_key(self) -> str:
        """`<key id>.<secret>`, as the registry showed it."""
        return f"{self.key_id}.{self.secret}"


class Registry:
    """Registers devices and gateways. A context manager; one connection."""

    def __init__(self, env: Mapping[str, str]) -> None:
        token = read_secret(Path(env["HUB_ADMIN_TOKEN_FILE"]))
        self._tls_url = env["HUB_API_TLS_URL"]
        self._http = httpx.Client(
            base_url=env["HUB_API_URL"], headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    def add(self, device_id: str, device_type: str, *, gateway: str | None = None, kind: str = "device") -> Identity:
        """Register; the broker holds the key when this returns. Raises Permanent with the hub's problem text."""
        body: dict[str, Any] = {"id": device_id, "serial": f"SN-{device_id}", "type": device_type, "kind": kind}
        if gateway is not None:
            body["gateway_id"] = gateway
        answer = self._http.post("/v1/devices", json=body)
        if answer.status_code != httpx.codes.CREATED:
            raise Permanent(f"registering {device_id}: {answer.status_code} {answer.text}")
        key_id, _, secret = answer.json()["api_key"].partition(".")
        return Identity(device_id, key_id, Secret(secret))

    def enrol(self, name: str, data_dir: Path, *, certificate: bool = False, replaces: str | None = None) -> Identity:
        """As an operator and a new gateway do it: a token here, `edge-agent enroll` there. Raises Permanent."""
        answer = self._http.post(
            "/v1/enrolment-tokens", json={"expires_s": 600, "labels": {"enrolled": "by-token"}, "replaces": replaces}
        )
        if answer.status_code != httpx.codes.CREATED:
            raise Permanent(f"a token for {name}: {answer.status_code} {answer.text}")
        words: tuple[str, ...] = (
            "enroll",
            "--hub",
            self._tls_url,
            "--data-dir",
            str(data_dir),
            "--name",
            name,
            "--hardware",
            name,
        )
        words += ("--certificate",) if certificate else ()
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent", *words],
            input=answer.json()["token"] + "\n",
            capture_output=True,
            text=True,
            timeout=_ENROL_S,
            check=False,
        )
        if done.returncode != 0:
            raise Permanent(f"enrolling {name} ended with {done.returncode}: {done.stderr}")
        key_id, _, secret = read_secret(data_dir / "key").partition(".")
        return Identity(name, key_id, Secret(secret))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
