"""`edge-agent enroll`: from one token to a gateway that runs.

    key pair made and durable -> the hub's CA pinned by the token -> asked -> everything saved, agent.toml last

Promises: the token leaves this process only over TLS that the pinned CA verified. Whatever step a crash cuts, running
the same command again ends enrolled: the key pair is there already, so the hub knows the request again, which costs
no further use of the token and gives a fresh key.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import identity_files
from edge_agent.config import VERSION
from edge_agent.hardware import Hardware
from edge_agent.hub_door import Door, Untrusted
from edge_agent.running import Claim
from shared.backoff import Backoff
from shared.config import ConfigError, Secret, read_secret_line, read_toml
from shared.enrolment_token import EnrolmentToken, parse
from shared.errors import Permanent, Transient
from shared.ids import is_device_id

TOKEN_VARIABLE = "AGENT_ENROLL_TOKEN"  # noqa: S105 - its name
_TRIES = 4
_BACKOFF = Backoff(first_s=1.0, cap_s=8.0)
_OK, _NOT_AUTHENTICATED, _TOO_MANY, _SERVER = 200, 401, 429, 500


class Refused(Permanent):
    """The hub said no."""


class Answer(msgspec.Struct, frozen=True):
    """The hub's (`POST /v1/enroll`)."""

    gateway_id: str
    api_key: str
    mqtt_url: str
    api_url: str
    mqtt_mtls_url: str | None = None
    certificate_pem: str | None = None
    pseudonyms: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the command found out."""

    gateway_id: str
    data_dir: Path
    hub: str
    devices: int
    certificate: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked on the command line."""

    hub: str
    data_dir: Path
    name: str | None = None
    certificate: bool = False


def read_token(
    given: str | None, file: Path | None, env: Mapping[str, str], stdin: Callable[[], str]
) -> EnrolmentToken:
    """The token, of the first place that has one. Raises ConfigError if it is none; it is never quoted."""
    if file is not None:
        text: str = read_secret_line(file)
    else:
        text = given or env.get(TOKEN_VARIABLE) or stdin()
    token = parse(text.strip())
    if token is None:
        raise ConfigError(["the enrolment token is not of the form e-….….…; copy the whole of it"])
    return token


def enrol(wish: Wish, token: EnrolmentToken, hardware: Hardware) -> Enrolled:
    """Do all of it. Raises Untrusted, ClockWrong, Refused or another Permanent, or Transient: try again."""
    door = Door(wish.hub)
    directory = wish.data_dir
    with Claim(directory):  # makes it; a running agent holds the files that would be replaced
        key = identity_files.key_pair(directory)
        ca_pem = door.pinned_ca(token.ca_sha256)
        body = {
            "token": token.text,
            "hardware": {"serial": hardware.serial, "hardware_id": hardware.id},
            "csr": identity_files.signing_request(key),
            "agent_version": VERSION,
            "certificate": wish.certificate,
        }
        if wish.name is not None:
            body["name"] = wish.name
        answer = _ask(door, body, ca_pem)
        identity_files.save(
            directory,
            ca_pem=ca_pem,
            api_key=Secret(answer.api_key),
            certificate_pem=answer.certificate_pem,
            config=_config(directory, answer),
        )
    return Enrolled(
        answer.gateway_id,
        directory,
        wish.hub,
        len(answer.pseudonyms.keys() - {answer.gateway_id}),
        bool(_certified(directory, answer)),
    )


def _ask(door: Door, body: dict[str, Any], ca_pem: str) -> Answer:
    for tried in range(_TRIES):
        try:
            return _judge(*door.post("/v1/enroll", body, ca_pem))
        except Transient:
            if tried == _TRIES - 1:
                raise
            time.sleep(_BACKOFF.delay_s(tried, random.random()))  # noqa: S311 - jitter
    raise AssertionError("the last try returns or raises")


def _judge(status: int, found: dict[str, Any]) -> Answer:
    if status == _OK:
        return _read(found)
    detail = found.get("detail", status)
    if status == _TOO_MANY or status >= _SERVER:
        raise Transient(f"the hub cannot enrol now: {detail}", hint="try again later")
    if status == _NOT_AUTHENTICATED:
        raise Refused(
            "the hub does not accept the token: it is unknown, used up, expired or revoked",
            hint="make another with `hub gateway enroll-token`",
        )
    raise Refused(f"the hub refuses the enrolment: {detail}")


def _read(found: dict[str, Any]) -> Answer:
    try:
        answer = msgspec.convert(found, Answer)
    except msgspec.ValidationError as error:
        raise Permanent(f"the hub's answer is none of ours: {error}") from None
    if not is_device_id(answer.gateway_id) or not answer.api_key.startswith("k:"):
        raise Permanent("the hub's answer is none of ours")
    return answer


def _config(directory: Path, answer: Answer) -> dict[str, Any]:
    path = directory / identity_files.CONFIG
    kept = read_toml(path) if path.exists() else {}
    for name in ("key_file", "data_dir"):
        kept.pop(name, None)  # by default what we write
    if kept.get("cert_file") == str((directory / identity_files.CERTIFICATE).resolve()):
        for name in ("hub_mtls_url", "cert_file", "cert_key_file"):
            kept.pop(name, None)  # of an earlier enrolment, which may have had another id
    return kept | {
        "agent_id": answer.gateway_id,
        "hub_mqtt_url": answer.mqtt_url,
        "hub_api_url": answer.api_url,
        "hub_ca_file": str((directory / identity_files.CA).resolve()),
        **_certified(directory, answer),
    }


def _certified(directory: Path, answer: Answer) -> dict[str, str]:
    """Where a certificate was given: the door for it, and its files."""
    if answer.certificate_pem is None or answer.mqtt_mtls_url is None:
        return {}
    return {
        "hub_mtls_url": answer.mqtt_mtls_url,
        "cert_file": str((directory / identity_files.CERTIFICATE).resolve()),
        "cert_key_file": str((directory / identity_files.KEY_PAIR).resolve()),
    }


def run(data_dir: Path) -> None:
    """Become `edge-agent run` on this directory; returns only if it cannot."""
    sys.stdout.flush()
    os.execve(  # noqa: S606 - our own interpreter and module
        sys.executable,
        [sys.executable, "-m", "edge_agent", "run"],
        os.environ | {"AGENT_DATA_DIR": str(data_dir)},
    )


__all__ = ["Enrolled", "Refused", "Untrusted", "Wish", "enrol", "read_token", "run"]
