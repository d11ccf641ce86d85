"""What a gateway installs: the agent's extra and its locked requirements carry nothing of the control plane."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_THE_HUB = (
    "aiokafka", "asyncpg", "confluent-kafka", "fastapi", "grpcio", "quixstreams", "rocksdict", "uvicorn",
)  # fmt: skip


def names(requirements: list[str]) -> set[str]:
    return {found[0] for line in requirements if (found := re.match(r"[A-Za-z0-9._-]+", line))}


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_agents_extra_holds_nothing_of_the_hub(project):
    asked = names([*project["dependencies"], *project["optional-dependencies"]["agent"]])
    assert {"aiomqtt", "sqlite-utils", "river", "httpx"} <= asked
    assert not asked & set(OF_THE_HUB)


@pytest.mark.parametrize("extra", ["agent", "hub", "dev"])
def test_locked_requirements_are_pinned_with_hashes_and_name_no_address(extra):
    text = (ROOT / "deploy" / "requirements" / f"{extra}.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())
    assert len(entries) > 5
    assert [entry.split()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert "://" not in text
    if extra == "agent":
        assert not names(entries) & set(OF_THE_HUB)


def test_the_lists_ask_for_what_pyproject_asks_for(project):
    for extra in ("agent", "hub"):
        asked = names([*project["dependencies"], *project["optional-dependencies"][extra]])
        locked = names((ROOT / "deploy" / "requirements" / f"{extra}.txt").read_text(encoding="utf-8").splitlines())
        assert {name.lower() for name in asked} <= {name.lower() for name in locked}
