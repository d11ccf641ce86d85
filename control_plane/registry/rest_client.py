"""The commands' way to the REST API, with the admin token's file.

Promises: a creation bears an Idempotency-Key and is sent again while the hub is away for a moment; refusals come as
HubError in the API's own words, with the exit status that fits them.
"""

import json
import random
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from shared import tls
from shared.backoff import Backoff
from shared.config import ConfigError, read_secret_line, setting
from shared.errors import HubError, Permanent, Transient

_TIMEOUT_S = 15.0
_STREAM_S = 120.0
"""The longest silence of an import: its keys enter the broker by an announced restart."""
_TRIES = 4
_BACKOFF = Backoff(first_s=0.5, cap_s=2.0)
_PAGE = 500
_NOT_FOUND_STATUS = 3


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What `hub device`, `hub gateway` and `hub type` read."""

    api_url: str = setting("HUB_API_URL", "where REST is served, http(s)://host:port")
    admin_token_file: Path = setting("HUB_ADMIN_TOKEN_FILE", "the file with an API token, mode 0600")
    ca_file: Path | None = setting("HUB_CA_FILE", "PEM: the CA of the hub's servers (https)", default=None)

    def problems(self) -> list[str]:
        """Rules that bound the values."""
        fits = self.api_url.startswith(("http://", "https://")) and self.api_url.count("/") > 1
        return [] if fits else ["HUB_API_URL: is not http://host:port"]


class NotFound(Permanent):
    """There is no such thing."""

    exit_status = _NOT_FOUND_STATUS


class RestClient:
    """One connection. A context manager."""

    def __init__(self, config: ClientConfig) -> None:
        token = read_secret_line(config.admin_token_file)
        try:
            self._http = httpx.Client(
                base_url=config.api_url,
                headers={"Authorization": f"Bearer {token}"},
                timeout=_TIMEOUT_S,
                verify=tls.client_context(config.ca_file) if config.api_url.startswith("https://") else True,
                trust_env=False,  # the hub is never behind a proxy of the environment
            )
        except httpx.InvalidURL as error:
            raise ConfigError([f"HUB_API_URL: {error}"]) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST with an Idempotency-Key, tried again while the hub is away. Raises HubError."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        for attempt in range(_TRIES):
            try:
                return self._send("POST", path, json=body, headers=headers)
            except Transient:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(_BACKOFF.delay_s(attempt, random.random()))  # noqa: S311 - jitter
        raise AssertionError("the last try returns or raises")

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """GET; parameters that are None are left out. Raises HubError."""
        return self._send("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Mapping[str, Any], *, within_s: float = _TIMEOUT_S) -> dict[str, Any]:
        """POST of a change that may be sent twice. Raises HubError."""
        return self._send("POST", path, json=body, timeout=within_s)

    def put(self, path: str, body: Mapping[str, Any], *, version: int | None = None) -> dict[str, Any]:
        """PUT; with `version` only if that is what it replaces. Raises HubError."""
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        return self._send("PUT", path, json=body, headers=headers)

    def patch(self, path: str, body: Mapping[str, Any], etag: str) -> dict[str, Any]:
        """PATCH of what has this ETag. Raises HubError."""
        return self._send("PATCH", path, json=body, headers={"If-Match": etag})

    def delete(self, path: str, etag: str | None = None) -> dict[str, Any]:
        """DELETE; with `etag` only of what has it. What was answered, if anything. Raises HubError."""
        response = self._request("DELETE", path, headers={"If-Match": etag} if etag else {})
        found: dict[str, Any] = response.json() if response.content else {}
        return found

    def tagged(self, path: str) -> tuple[dict[str, Any], str]:
        """GET, with the ETag. Raises HubError."""
        response = self._request("GET", path)
        return response.json(), response.headers["etag"]

    def upload(
        self, path: str, content: Iterator[bytes], content_type: str, **query: str | bool
    ) -> Iterator[dict[str, Any]]:
        """POST of a body piece by piece; the answer's JSON objects line by line as they come. Raises HubError."""
        headers = {"Content-Type": content_type}
        with self._stream("POST", path, content=content, headers=headers, params=query) as response:
            for line in response.iter_lines():
                yield json.loads(line)

    def pages(self, path: str, items: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All entries of a list, page after page. Raises HubError."""
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, limit=_PAGE, **query)
            yield from page[items]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def stream(self, path: str, **query: Any) -> Iterator[bytes]:
        """GET of what may be larger than memory, part by part. Raises HubError, also for an answer that is cut."""
        params = {name: value for name, value in query.items() if value is not None}
        with self._stream("GET", path, params=params) as response:
            yield from response.iter_bytes()

    def _send(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._request(method, path, **more).json()
        return found

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        with self._away():
            response = self._http.request(method, path, **more)
        if response.is_success:
            return response
        raise _refusal(response)

    @contextmanager
    def _stream(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        with self._away(), self._http.stream(method, path, timeout=_STREAM_S, **more) as response:
            if not response.is_success:
                response.read()
                raise _refusal(response)
            yield response

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            wrong = tls.trouble(error)
            if wrong is not None:
                raise Permanent(f"no TLS with {self._http.base_url}: {wrong[0]}", hint=wrong[1]) from error
            raise Transient(
                f"the hub does not answer at {self._http.base_url} ({error or type(error).__name__})",
                hint="is `hub serve` running? see `hub status`",
            ) from error


def _refusal(response: httpx.Response) -> HubError:
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"the hub answered {response.status_code}"
    if response.status_code == httpx.codes.NOT_FOUND:
        return NotFound(detail)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return Permanent("the hub does not know the token", hint="look at HUB_ADMIN_TOKEN_FILE, or run `hub migrate`")
    if response.status_code in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
        return Transient(detail)
    return Permanent(detail)
