"""The commands' way to the REST API, with the admin token's file.

Promises: a creation bears an Idempotency-Key and is sent again while the hub is away for a moment; refusals come as
HubError in the API's own words, with the exit status that fits them.
"""

import random
import secrets
import time
from collections.abc import Iterator, Mapping
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

    def get(self, path: str, **query: str | int | None) -> dict[str, Any]:
        """GET; parameters that are None are left out. Raises HubError."""
        return self._send("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Mapping[str, Any], *, within_s: float = _TIMEOUT_S) -> dict[str, Any]:
        """POST of a change that may be sent twice. Raises HubError."""
        return self._send("POST", path, json=body, timeout=within_s)

    def put(self, path: str, body: Mapping[str, Any], *, version: int | None = None) -> dict[str, Any]:
        """PUT; with `version` only if that is what it replaces. Raises HubError."""
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        return self._send("PUT", path, json=body, headers=headers)

    def delete(self, path: str) -> dict[str, Any]:
        """DELETE. Raises HubError."""
        return self._send("DELETE", path)

    def pages(self, path: str, items: str, **query: str | int | None) -> Iterator[dict[str, Any]]:
        """All entries of a list, page after page. Raises HubError."""
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, limit=_PAGE, **query)
            yield from page[items]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def stream(self, path: str, **query: str | int | None) -> Iterator[bytes]:
        """GET of what may be larger than memory, part by part. Raises HubError, also for an answer that is cut."""
        params = {name: value for name, value in query.items() if value is not None}
        try:
            with self._http.stream("GET", path, params=params) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                yield from response.iter_bytes()
        except httpx.TransportError as error:
            raise Transient(
                f"the hub's answer broke off ({error or type(error).__name__})", hint="try again"
            ) from error

    def _send(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **more)
        except httpx.TransportError as error:
            wrong = tls.trouble(error)
            if wrong is not None:
                raise Permanent(f"no TLS with {self._http.base_url}: {wrong[0]}", hint=wrong[1]) from error
            raise Transient(
                f"the hub does not answer at {self._http.base_url} ({error or type(error).__name__})",
                hint="is `hub serve` running? see `hub status`",
            ) from error
        if response.is_success:
            found: dict[str, Any] = response.json() if response.content else {}
            return found
        raise _refusal(response)


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
