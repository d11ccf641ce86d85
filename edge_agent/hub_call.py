"""One REST call to the hub in a short-lived child, so that the resident agent carries neither TLS nor a client.

`python -m edge_agent.hub_call` reads one request, its key included, as JSON from stdin and writes the answer as JSON
to stdout: nothing secret stands in an argument, in the environment or in a log. `call` is the agent's side.

Promises: an answer is a status with its body, whatever the status; no answer within the deadline is Transient, and
the request may have been done all the same. Certificates are checked against `ca_file` and the URL's host; redirects
and proxies are not followed. A body is read up to 1 MiB.
"""

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from shared.config import Secret
from shared.errors import HubError, Permanent, Transient

DEADLINE_S = 20.0
MOST_BYTES = 1024 * 1024
_KILL_S = 5.0
_ROOM = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub's REST API: `url` is http(s)://host:port, `ca_file` the CA of its certificate (https)."""

    url: str
    ca_file: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """What the hub said. `body`: its JSON, or {} where there is none."""

    status: int
    body: dict[str, object] = msgspec.field(default_factory=dict)
    retry_after_s: float | None = None


class _Request(msgspec.Struct, frozen=True):
    url: str
    method: str
    path: str
    key: str | None = None
    ca_file: str | None = None
    body: dict[str, object] | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    deadline_s: float = DEADLINE_S


class _Result(msgspec.Struct, frozen=True):
    answer: Answer | None = None
    transient: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `key`: `<key id>.<secret>`, sent as the bearer; `body`: sent as JSON."""

    method: str
    path: str
    key: Secret | None = field(default=None, repr=False)
    body: dict[str, object] | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    deadline_s: float = DEADLINE_S


async def call(hub: Hub, request: Call) -> Answer:
    """Ask the hub in a child. Raises Transient if it does not answer, Permanent if it cannot be asked at all (no URL,
    a CA file that is none, a certificate that is not the hub's).
    """
    asked = _Request(
        hub.url,
        request.method,
        request.path,
        str(request.key) if request.key is not None else None,
        hub.ca_file,
        request.body,
        request.headers,
        request.deadline_s,
    )
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge_agent.hub_call"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a trace of it would be no answer, and may quote what was sent
            cwd=_ROOM,
        )
    except OSError as error:
        raise Transient(f"no process for a call to the hub: {error.strerror}") from error
    try:
        async with asyncio.timeout(request.deadline_s + _KILL_S):
            said, _ = await child.communicate(msgspec.json.encode(asked))
    except TimeoutError:
        raise Transient(f"the hub did not answer within {request.deadline_s:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _read(said)


def _read(said: bytes) -> Answer:
    try:
        result = msgspec.json.decode(said, type=_Result)
    except msgspec.DecodeError:
        raise Transient("the call to the hub ended without an answer") from None
    if result.answer is not None:
        return result.answer
    raise (Transient if result.transient else Permanent)(result.trouble)


def main(stdin: bytes) -> bytes:
    """The child: what is to be written to stdout for this stdin."""
    try:
        result = _Result(answer=_exchange(msgspec.json.decode(stdin, type=_Request)))
    except HubError as error:
        result = _Result(transient=isinstance(error, Transient), trouble=str(error.args[0]))
    except msgspec.DecodeError:
        result = _Result(trouble="what was asked of the child is no request")
    return msgspec.json.encode(result)


def _exchange(request: _Request) -> Answer:
    import http.client  # noqa: PLC0415 - the child's alone: see above
    import ssl  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    parts = urlsplit(request.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Permanent("the hub's API has no address of the form https://host:port")
    headers = {"Accept": "application/json", **request.headers}
    if request.key is not None:
        headers["Authorization"] = f"Bearer {request.key}"
    body = None
    if request.body is not None:
        body = msgspec.json.encode(request.body)
        headers["Content-Type"] = "application/json"
    try:
        if parts.scheme == "https":
            trust = ssl.create_default_context(cafile=request.ca_file)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=request.deadline_s, context=trust
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=request.deadline_s)
        try:
            connection.request(request.method, request.path, body, headers)
            response = connection.getresponse()
            said = response.read(MOST_BYTES + 1)
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as error:
        raise Permanent(f"the hub's certificate is not trusted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise Permanent(f"no TLS with the hub: {error.reason or 'is the CA file one?'}") from error
    except FileNotFoundError as error:
        raise Permanent("the hub's CA file is missing") from error
    except (OSError, http.client.HTTPException) as error:
        raise Transient(f"the hub does not answer ({type(error).__name__})") from error
    return _answer(response.status, response.headers.get("Retry-After"), said)


def _answer(status: int, retry_after: str | None, said: bytes) -> Answer:
    if len(said) > MOST_BYTES:
        raise Permanent(f"the hub's answer is larger than {MOST_BYTES} bytes")
    try:
        body = msgspec.json.decode(said, type=dict[str, object]) if said else {}
    except msgspec.DecodeError:
        body = {}
    try:
        retry_after_s = float(retry_after) if retry_after is not None else None
    except ValueError:
        retry_after_s = None
    return Answer(status, body, retry_after_s)


if __name__ == "__main__":
    sys.stdout.buffer.write(main(sys.stdin.buffer.read()))
