"""The gateway's key while the agent runs: which one the connection uses, and its replacement.

Promises: at every moment there is a key on disk that the hub takes (`key_rotation`, `key_files`); a rotation costs
one reconnect, and no reading: what was not acknowledged stays in the outbox and is sent again. The hub is asked now
and then whether the key is to be replaced; SIGHUP (`edge-agent rotate`) begins at once what is begun on disk.
"""

import asyncio
import random
import secrets
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from edge_agent import key_events, key_rotation
from edge_agent.hub_call import Answer, Call, Hub, call
from edge_agent.key_files import HeldKey, KeyFiles
from edge_agent.key_rotation import Effect, Event, Phase, Rotation, Save, phase_of
from shared.backoff import Backoff
from shared.config import Secret
from shared.errors import HubError, Permanent, Transient

_RETRY = Backoff(first_s=1.0, cap_s=300.0)
_OK, _CREATED, _NOT_AUTHENTICATED, _TOO_MANY, _SERVER = 200, 201, 401, 429, 500
_CONNECT_S = 30.0
"""How long a new key is given to connect before the hub is asked whether it is one."""

Ask = Callable[[Hub, Call], Awaitable[Answer]]


class KeyKeeper:
    """One gateway's. Without `hub` nothing is asked: what is on disk is used. `every_s`: 0 never asks by itself."""

    def __init__(self, files: KeyFiles, hub: Hub | None, every_s: float, ask: Ask = call) -> None:
        self._files = files
        self._hub = hub
        self._every_s = every_s
        self._ask = ask
        disk = files.load()
        self._present, self._new, self._asked = disk.present, disk.new, disk.asked
        self._state = Rotation(phase_of(asked=disk.asked is not None, has_new=disk.new is not None))
        self._changed = asyncio.Event()
        """Another key is to be used: the link makes its connection anew."""
        self._woken = asyncio.Event()
        if disk.new is not None and disk.asked is not None:
            files.no_request()  # cut between the two

    @property
    def phase(self) -> Phase:
        """Where a rotation stands."""
        return self._state.phase

    def current(self) -> HeldKey:
        """The key for the next connection."""
        self._changed.clear()
        return self._new if self._new is not None and self._state.uses_new else self._present

    def bearer(self) -> Secret:
        """`<key id>.<secret>` of the same key, for a call by REST; asking for it changes nothing."""
        key = self._new if self._new is not None and self._state.uses_new else self._present
        return Secret(f"{key.key_id}.{key.secret}")

    def look(self) -> None:
        """Ask the hub soon whether the key is to be replaced."""
        self._woken.set()

    async def changed(self) -> None:
        """Returns when the connection should be made anew, with another key."""
        await self._changed.wait()

    def accepted(self, key: HeldKey) -> None:
        """The broker took it."""
        if self._new is not None and key.key_id == self._new.key_id:
            self._happened(Event.CONNECTED)
            self._woken.set()

    def refused(self, key: HeldKey) -> None:
        """The broker did not."""
        if self._new is None:
            return
        if key.key_id == self._new.key_id:
            key_events.KeyRefused().emit()
            self._happened(Event.REFUSED)  # the old one has its turn, until we look at this one again
        else:
            self._state = key_rotation.retried(self._state)

    async def serve(self, stopping: asyncio.Event) -> None:
        """Until `stopping`. Never raises for what the hub does."""
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread: a test's loop
            loop.add_signal_handler(signal.SIGHUP, self._begun_on_disk)
        try:
            await self._serve(stopping)
        finally:
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(signal.SIGHUP)

    async def _serve(self, stopping: asyncio.Event) -> None:
        if self._hub is None:
            await stopping.wait()
            return
        attempt = 0
        pause_s = self._next_look_s(first=True)
        while not await self._rest(stopping, pause_s):
            effect = key_rotation.demand(self._state)
            try:
                pause_s = await self._perform(self._hub, effect)
                attempt = 0
            except HubError as error:
                pause_s = _RETRY.delay_s(attempt, random.random())  # noqa: S311 - jitter
                attempt += 1
                key_events.KeyTrouble(effect or "look", str(error.args[0]), round(pause_s, 1)).emit()

    async def _perform(self, hub: Hub, effect: Effect | None) -> float:
        """Do what is demanded; seconds until there may be more to do."""
        if effect is None:
            answer = await self._ask(hub, Call("GET", "/v1/self", self._present.text))
            if _read(answer, _OK).get("rotate_due") is True:
                self._happened(Event.DUE)
                return 0.0
            return self._next_look_s(first=False)
        if effect is Effect.ASK:
            return await self._ask_for_one(hub)
        if effect is Effect.CONFIRM:
            assert self._new is not None
            _read(await self._ask(hub, Call("GET", "/v1/self", self._new.text)), _OK)
            self._happened(Event.CONFIRMED)
            key_events.KeyRotated().emit()
            return self._next_look_s(first=False)
        return await self._see_whether_it_is_one(hub)

    async def _ask_for_one(self, hub: Hub) -> float:
        assert self._asked is not None
        key_events.KeyAsked().emit()
        headers = {"Idempotency-Key": self._asked}
        answer = await self._ask(
            hub, Call("POST", "/v1/self/credentials:rotate", self._present.text, headers=headers)
        )
        try:
            api_key = _read(answer, _CREATED).get("api_key")
        except Permanent:
            self._happened(Event.DECLINED)  # asking the same again is declined again
            raise
        key_id, dot, secret = str(api_key).partition(".")
        if not dot or not secret:
            self._happened(Event.DECLINED)
            raise Permanent("the hub gave no key")
        self._new = HeldKey(key_id, type(self._present.secret)(secret))
        self._happened(Event.GIVEN)
        key_events.KeyKept().emit()
        self._changed.set()
        return _CONNECT_S

    async def _see_whether_it_is_one(self, hub: Hub) -> float:
        """The new key was not taken yet: the link tries, or the broker refused it. Asked with the old one, since a
        use of the new one would end the old before the broker took the new.
        """
        assert self._new is not None
        answer = await self._ask(hub, Call("GET", "/v1/self", self._present.text))
        if answer.status == _NOT_AUTHENTICATED:
            self._state = key_rotation.retried(self._state)  # the old one ended: the new one is all there is
            return _CONNECT_S
        keys = _read(answer, _OK).get("keys")
        living = {key.get("key_id") for key in keys if isinstance(key, dict)} if isinstance(keys, list) else set()
        if self._state.phase is Phase.TRYING and living and self._new.key_id not in living:
            self._happened(Event.WITHDRAWN)
            key_events.KeyDropped().emit()
            return self._next_look_s(first=False)
        if self._state.refused:
            self._state = key_rotation.retried(self._state)
            self._changed.set()
        return _CONNECT_S

    def _happened(self, event: Event) -> None:
        """Save, then let it count."""
        state, save = key_rotation.step(self._state, event)
        if save is Save.REQUEST:
            self._asked = secrets.token_urlsafe(16)
            self._files.request(self._asked)
        elif save is Save.NEW_KEY:
            assert self._new is not None
            self._files.keep_new(self._new)
            self._asked = None
        elif save is Save.NO_REQUEST:
            self._files.no_request()
            self._asked = None
        elif save is Save.PROMOTE:
            assert self._new is not None
            self._files.promote()
            self._present, self._new = self._new, None
        elif save is Save.NO_NEW_KEY:
            self._files.drop_new()
            self._new = None
        self._state = state

    def _begun_on_disk(self) -> None:
        """A command wrote a request."""
        asked = self._files.load().asked
        if asked is not None and self._state.phase is Phase.IDLE:
            self._asked = asked
            self._state = Rotation(Phase.ASKING)
        self._woken.set()

    def _next_look_s(self, *, first: bool) -> float:
        if key_rotation.demand(self._state) is Effect.CONNECT:
            return _CONNECT_S
        if key_rotation.demand(self._state) is not None:
            return 0.0
        if self._every_s == 0:
            return 365 * 86_400.0
        return self._every_s * (random.random() if first else 0.5 + random.random())  # noqa: S311 - jitter

    async def _rest(self, stopping: asyncio.Event, seconds: float) -> bool:
        """Until something is to be done; whether the agent stops."""
        stop, woken = asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait([stop, woken], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            woken.cancel()
            await asyncio.gather(stop, woken, return_exceptions=True)
        self._woken.clear()
        return stopping.is_set()


def _read(answer: Answer, wanted: int) -> dict[str, object]:
    """The body of the wanted answer. Raises Transient for what may pass, Permanent for a refusal."""
    if answer.status == wanted:
        return answer.body
    detail = f"the hub answered {answer.status}"
    if answer.status in (_NOT_AUTHENTICATED, _TOO_MANY) or answer.status >= _SERVER:
        raise Transient(detail)  # a key that is not known now may be after the device's release
    raise Permanent(f"{detail}: {answer.body.get('detail', '')}")
