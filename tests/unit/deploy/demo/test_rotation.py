"""What the demo counts of the key that is replaced while it runs."""

from types import SimpleNamespace
from typing import Any

import pytest

from deploy.demo import rotation
from deploy.demo.show import Progress
from shared.errors import Permanent


def site(answer: str | Exception) -> Any:
    asked: list[tuple[str, ...]] = []

    def command(*words: str) -> str:
        asked.append(words)
        if isinstance(answer, Exception):
            raise answer
        return answer

    untouched = SimpleNamespace(command=None)
    return SimpleNamespace(gateways={"gw-1": untouched, "gw-2": SimpleNamespace(command=command)}, asked=asked)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_AFTER_S", 0.0)


async def test_the_last_gateway_replaces_its_key() -> None:
    answered = site('{"rotated": true, "key_id": "k:b", "before": "k:a"}')
    found = await rotation.rotate(answered, Progress())
    assert answered.asked == [("rotate", "--json")]
    assert (found, rotation.failures(found)) == ({"rotations": 1, "rotation_failures": 0}, [])


@pytest.mark.parametrize("answer", [Permanent("no"), '{"rotated": false, "key_id": "k:a", "before": "k:a"}'])
async def test_what_fails_is_counted_and_fails_the_run(answer: str | Exception) -> None:
    found = await rotation.rotate(site(answer), Progress())
    assert found == {"rotations": 0, "rotation_failures": 1}
    assert rotation.failures(found) == ["a gateway could not replace its key"]
