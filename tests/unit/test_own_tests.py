"""Each source file has its test; what has none of its own name stands in a list here, with its reason."""

from pathlib import Path

from tests.test_architecture import ROOT, TOOLS, modules, says_nothing, tools

TESTED_ELSEWHERE: dict[str, str] = {
    # The registry's shells are one path from REST to broker and Kafka: tested as such, on real servers.
    "control_plane/registry/broker_file.py": "tests/stack/registry/test_service.py",
    "control_plane/registry/key_watch.py": "tests/stack/registry/test_service.py",
    "control_plane/registry/broker_cli.py": "tests/stack/registry/test_service.py",
    "control_plane/registry/broker_restart.py": "tests/stack/registry/test_rebuild.py",
    "control_plane/registry/projection_store.py": "tests/stack/registry/test_reconciler.py",
    "control_plane/registry/store.py": "tests/stack/registry/test_registrar.py",
    "control_plane/registry/fleet/answers.py": "tests/unit/control_plane/registry/test_api.py",
    "control_plane/registry/fleet/group_routes.py": "tests/stack/registry/fleet/test_api.py",
    "control_plane/registry/fleet/transfer_routes.py": "tests/stack/registry/fleet/test_api.py",
    "control_plane/registry/fleet/privacy_routes.py": "tests/stack/registry/fleet/test_api.py",
    "control_plane/registry/fleet/asked.py": "tests/unit/control_plane/registry/fleet/test_routes.py",
    "control_plane/registry/fleet/type_routes.py": "tests/unit/control_plane/registry/test_api.py",
    "control_plane/registry/access/audit_store.py": "tests/stack/registry/access/test_audit_routes.py",
    "control_plane/registry/access/token_store.py": "tests/stack/registry/access/test_token_routes.py",
    "control_plane/registry/cli.py": "tests/unit/control_plane/registry/fleet/test_device_cli.py",
    "control_plane/registry/cli_words.py": "tests/unit/control_plane/registry/fleet/test_device_cli.py",
    "control_plane/registry/enrolment/store.py": "tests/stack/registry/enrolment/test_enroller.py",
    "control_plane/registry/enrolment/behind.py": "tests/stack/registry/enrolment/test_behind_routes.py",
    # The agent's side of enrolment is tested against a hub.
    "edge_agent/enrol.py": "tests/stack/registry/enrolment/test_enrol.py",
    **dict.fromkeys(
        (f"control_plane/registry/credentials/{name}.py" for name in ("store", "rings", "rotator", "key_times")),
        "tests/stack/registry/credentials/test_routes.py",
    ),
    "control_plane/registry/moves.py": "tests/stack/registry/credentials/test_routes.py",
    "edge_agent/key_command.py": "tests/stack/registry/credentials/test_key_keeper.py",
    # So are certificates: from REST over the list of revocations to the broker's door.
    **dict.fromkeys(
        (f"control_plane/registry/pki/{name}.py" for name in ("crl_file", "opening", "routes", "store")),
        "tests/stack/registry/pki/test_certificates.py",
    ),
    # So is the sink.
    "control_plane/analytics/sink_job.py": "tests/stack/test_sink.py",
    # Values without behaviour: seen through what shows them.
    "control_plane/registry/rooms.py": "tests/stack/registry/test_service.py",
    "control_plane/registry/device.py": "tests/unit/control_plane/registry/test_resources.py",
    # A whole installation: every stack test of the whole path starts it, registers with it and reads by it.
    "deploy/site/hub.py": "tests/stack/test_supervisor.py",
    "deploy/site/installation.py": "tests/stack/test_whole_path.py",
    "deploy/site/registry.py": "tests/stack/test_whole_path.py",
    "deploy/site/topics.py": "tests/stack/test_whole_path.py",
    "deploy/site/gateway.py": "tests/stack/test_outbox_files.py",
    "deploy/site/simulator.py": "tests/stack/test_kafka_away.py",
    # What only waits: the short demo.
    "deploy/demo/drain.py": "tests/stack/test_demo.py",
    # A measurement is proved by measuring; the short one runs the rig, the load and the whole path.
    "deploy/bench/rig.py": "tests/stack/test_bench.py",
    "deploy/bench/paths.py": "tests/stack/test_bench.py",
    # What writes docs/reference is tested by what it writes.
    **dict.fromkeys(
        (f"deploy/reference/{path.name}" for path in (ROOT / "deploy/reference").glob("*.py")),
        "tests/unit/deploy/test_reference.py",
    ),
}
"""Source files whose test has another name, and that test."""
RUN_BY_HAND = {
    "deploy/bench/broker.py": "measures for minutes: `make bench`",
    "deploy/bench/ingest.py": "measures for minutes: `make bench`",
    "deploy/bench/streams.py": "measures for minutes: `make bench`",
    "deploy/bench/registry.py": "makes a million devices: `make bench ONLY=registry`",
    "deploy/chaos/window.py": "measures what a broker loses, which no test can promise: `make chaos`",
}
"""Source files that no test runs, and why."""
DECLARATIONS = "events"
"""Modules of this name, or ending in it, only declare what is logged and counted; tests of what happens read it."""


def problems_of_tests() -> list[str]:
    """Each source file has its test of the same name: in the unit tests at the same path, or on the real servers."""
    names = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    found = []
    sources = [*modules().values(), *tools().values()]
    for module in sources:
        if says_nothing(module.tree) or module.path.stem.endswith(DECLARATIONS):
            continue
        if module.path.as_posix() in RUN_BY_HAND:
            continue
        elsewhere = TESTED_ELSEWHERE.get(module.path.as_posix())
        own = _own_tests(module.path) & names
        if elsewhere is not None:
            if Path(elsewhere) not in names:
                found.append(f"{module.path}: its test {elsewhere} is not there")
            if own:
                found.append(f"{module.path} has {min(own)}: take it out of TESTED_ELSEWHERE")
        elif not own:
            found.append(f"{module.path} has no test of its name")
    absent = {*TESTED_ELSEWHERE, *RUN_BY_HAND} - {module.path.as_posix() for module in sources}
    return found + [f"a list here names {path}, which is not there" for path in sorted(absent)]


def _own_tests(source: Path) -> set[Path]:
    """Where a source file's test may stand."""
    test = f"test_{source.stem.strip('_')}.py"
    if source.stem == "__init__":
        test = f"test_{source.parent.name}.py"
    room = source.parts[1] if len(source.parts) > 2 else ""
    places = {Path("tests/unit", source.parent)}
    if source.parts[0] != TOOLS:  # its names are those of what it drives: `hub`, `stack`, `agent`
        below = source.parts[1:-1]  # a sub-room's shells have a folder of their own, or stand in their room's
        inner = {Path(*below), Path(room), Path()}
        places |= {Path("tests", kind, place) for kind in ("stack", "model", "contracts") for place in inner}
    return {place / test for place in places}


def test_every_source_file_has_its_test() -> None:
    assert problems_of_tests() == []
