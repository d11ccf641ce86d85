"""The command line as a whole: help everywhere, exit statuses, errors as one sentence or one JSON object."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import __main__ as hub
from shared.config import ConfigError
from shared.errors import HubError, Permanent, Transient


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command that runs something."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield parser
    for action in inner:
        for child in action.choices.values():
            yield from leaves(child)


def test_every_command_runs_something_and_shows_an_example() -> None:
    for leaf in leaves(hub.parser()):
        assert callable(leaf.get_default("run")), leaf.prog
        assert "example: " in (leaf.epilog or ""), f"{leaf.prog} shows no example"
        leaf.format_help()


def test_every_command_tells_its_exit_statuses_and_all_but_services_print_json() -> None:
    services = set()
    for leaf in leaves(hub.parser()):
        words = leaf.format_help()
        assert "Exit status: 0" in " ".join(words.split()), leaf.prog
        if "--json" not in words:
            services.add(leaf.prog)
    jobs = {f"hub analytics {name}" for name in ("normalizer", "detector", "forwarder", "sink")}
    assert services == {"hub serve", "hub api", "hub ingest"} | jobs


@pytest.mark.parametrize(
    "words",
    ["telemetry tail", "deadletters list", "deadletters replay --reason bomb", "migrate --wait 0"],
)
def test_with_kafka_away_a_command_says_so_in_one_line_and_nothing_else(words: str, tmp_path: Path) -> None:
    # A process of its own: what a client complains of as it is thrown away comes at the end.
    environment = {
        "HUB_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "HUB_DATABASE_URL": "postgresql://hub:secret@127.0.0.1:1/hub",
        "HUB_DATA_DIR": str(tmp_path),
        "HUB_ADMIN_TOKEN_FILE": str(tmp_path / "token"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", *words.split()],
        env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert "Kafka does not answer" in line


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException | None, *, as_json: bool = False) -> int:
    """The status of a command that raises `error`."""

    def fail(_: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return 0

    made = argparse.ArgumentParser()
    made.set_defaults(run=fail, json=as_json)
    monkeypatch.setattr(hub, "parser", lambda: made)
    return hub.main([])


class _NotThere(Permanent):
    exit_status = 3


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (Permanent("no"), 1),
        (ConfigError(["X: missing"]), 2),
        (_NotThere("no such thing"), 3),
        (Transient("away"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_statuses(monkeypatch: pytest.MonkeyPatch, error: HubError | None, status: int) -> None:
    assert run(monkeypatch, error) == status


def test_errors_in_words_and_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = Transient("Postgres is away", hint="start it")
    run(monkeypatch, error)
    assert capsys.readouterr().err == "hub: Postgres is away. start it\n"
    run(monkeypatch, error, as_json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": {"message": "Postgres is away", "hint": "start it", "transient": True}}
    assert said.err == ""


def test_a_child_of_a_dead_supervisor_does_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "control_plane", "--help"],
        env=os.environ | {"HUB_SUPERVISOR_PID": "1" if os.getppid() != 1 else "2"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-9, b"")


def test_usage_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        hub.main(["no-such-command"])
    assert caught.value.code == 2
    assert "no-such-command" in capsys.readouterr().err
