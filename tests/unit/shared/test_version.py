"""Programs say which version they are."""

import tomllib
from pathlib import Path

import pytest

from control_plane.__main__ import main as hub
from edge_agent.__main__ import main as agent
from shared.version import NOT_INSTALLED, installed_version


def test_it_is_what_was_installed() -> None:
    written = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert installed_version() in (written["version"], NOT_INSTALLED)
    assert installed_version("pytest") == pytest.__version__
    assert installed_version("no-such-package") == NOT_INSTALLED


@pytest.mark.parametrize(("program", "name"), [(hub, "hub"), (agent, "edge-agent")])
def test_each_program_says_it(program: object, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program(["--version"])  # type: ignore[operator]
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{name} {installed_version()}\n"
