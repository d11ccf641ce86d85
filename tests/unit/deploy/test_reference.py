"""The reference pages: as committed they are what the code says, and they leave nothing out.

What the code declares is found here a second time by plain text search, so that an overlooked module shows.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from control_plane.supervisor import SERVICES
from deploy.reference import __main__ as reference
from deploy.reference import contracts, declared, doors, json_words, lists, markdown, processes, source, survey
from deploy.reference.facts import Config, Facts, Field, Metric, Setting, joined

PROMETHEUS = processes.ROOT / "deploy" / "prometheus"


@pytest.fixture(scope="module")
def facts() -> Facts:
    """What the code declares now."""
    return reference.surveyed()


@pytest.fixture(scope="module")
def sources() -> str:
    """All that the pages are made of."""
    return "\n".join(path.read_text(encoding="utf-8") for path in processes.modules().values())


def test_the_committed_pages_are_what_the_code_says(facts: Facts) -> None:
    """Red after a change of what is declared: run `make docs` and look at the difference."""
    assert reference.stale(reference.everything(facts, reference.DOCS), reference.DOCS) == []


def test_everything_declared_has_its_text(facts: Facts) -> None:
    assert lists.gaps(facts) + contracts.gaps() == []


def test_the_pages_name_no_machine(facts: Facts) -> None:
    text = "\n".join(reference.pages(facts).values())
    for word in (str(processes.ROOT), str(Path.home()), sys.executable, tempfile.gettempdir()):
        assert word not in text


def test_no_metric_is_left_out(facts: Facts, sources: str) -> None:
    written = set(re.findall(r'\b(?:Counter|Gauge|Histogram|Summary|Info|Enum)\(\s*"(\w+)"', sources))
    assert len(written) > 50
    assert {metric.exposed.removesuffix("_total") for metric in facts.metrics} == written


def test_no_event_is_left_out(facts: Facts, sources: str) -> None:
    written = re.findall(r"^class (\w+)\(Event\):", sources, re.MULTILINE)
    assert len(facts.events) == len(written)
    assert {event.name.replace("_", "") for event in facts.events} == {name.lower() for name in written}


def test_no_setting_is_left_out(facts: Facts, sources: str) -> None:
    written = set(re.findall(r'= setting\(\s*"(\w+)"', sources)) - {"HUB_MQTT_URL", "AGENT_COMMIT_EVERY_MS"}
    found = {setting.env for config in facts.configs for setting in config.settings}
    assert found == written | {"HUB_MQTT_URL", "AGENT_COMMIT_EVERY_MS"}  # they also stand in an example


def test_what_is_read_beside_the_settings_is_named(facts: Facts, sources: str) -> None:
    read = set(re.findall(r'\benv(?:iron)?(?:\.get\(|\[)"([A-Z][A-Z0-9_]+)"', sources))
    settings = {setting.env for config in facts.configs for setting in config.settings}
    assert read - settings - {"PATH_INFO"} == lists.other_variables()


@pytest.mark.parametrize(
    ("name", "process"),
    [
        ("telemetry_ingest_rate", "hub ingest"),
        ("telemetry_mqtt_connect_failures", "hub ingest"),
        ("anomaly_events_total", "hub analytics detector"),
    ],
)
def test_the_fixed_names_are_exposed_exactly(facts: Facts, name: str, process: str) -> None:
    assert process in [
        owner for metric in facts.metrics if metric.exposed == name for owner in processes.having(metric.module)
    ]


def test_nothing_is_called_almost_like_a_fixed_name(facts: Facts) -> None:
    names = {metric.exposed for metric in facts.metrics}
    assert {name for name in names if name.removesuffix("_total") in lists.FIXED_NAMES} <= lists.FIXED_NAMES.keys()


def test_stale_pages_are_named_and_mended(tmp_path: Path) -> None:
    made = {"reference/a.md": "one\n", "README.md": "two\n"}
    reference.write(made, tmp_path / "docs")
    assert reference.stale(made, tmp_path / "docs") == []
    (tmp_path / "docs" / "README.md").unlink()
    (tmp_path / "docs" / "reference" / "a.md").write_text("edited\n")
    (tmp_path / "docs" / "reference" / "b.md").write_text("nothing makes this\n")
    (tmp_path / "docs" / "guide.md").write_text("somebody wrote this\n")
    assert reference.stale(made, tmp_path / "docs") == ["README.md", "reference/a.md", "reference/b.md"]
    reference.write(made, tmp_path / "docs")
    assert reference.stale(made, tmp_path / "docs") == []
    assert (tmp_path / "docs" / "guide.md").exists()


def test_the_index_lists_every_page(tmp_path: Path) -> None:
    (tmp_path / "adr").mkdir()
    (tmp_path / "adr" / "README.md").write_text("# Decisions\n")
    (tmp_path / "adr" / "0001-x.md").write_text("# 1. X\n")
    (tmp_path / "guide.md").write_text("# A guide\n\nText.\n")
    (tmp_path / "README.md").write_text("# Old\n")
    page = reference.index(tmp_path, {"reference/limits.md": "# Limits\n"})["README.md"]
    assert page.endswith(
        "## Guides\n\n- [A guide](guide.md)\n\n"
        "## Reference, made from the code\n\n- [Limits](reference/limits.md)\n\n"
        "## Decisions\n\n- [1. X](adr/0001-x.md)\n"
    )


def test_links_of_the_docs_lead_somewhere(facts: Facts) -> None:
    made = reference.everything(facts, reference.DOCS)
    made |= {
        name: (reference.DOCS / name).read_text(encoding="utf-8") for name in ("architecture.md", "observability.md")
    }
    for name, page in made.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page):
            assert (reference.DOCS / name).parent.joinpath(target).exists(), f"{name}: {target}"


def test_gaps_are_named(facts: Facts) -> None:
    bare = Facts(
        configs=(Config("shared.config", "Bare", "", (Setting("X_Y", "y", "text", None, ""),)),),
        metrics=(Metric("shared.nowhere", "x_y", "gauge", (), ""),),
    )
    assert lists.gaps(bare) == [
        "shared.config: Bare has no docstring",
        "shared.config: Bare names no program",
        "shared.nowhere: x_y has no help",
        "shared.nowhere: x_y is in no process",
        "shared.config: X_Y has no meaning",
    ]
    assert joined([bare, facts, bare]).metrics.count(bare.metrics[0]) == 1


DECLARING = '''
"""A module that declares things."""
from dataclasses import dataclass
from pathlib import Path
from prometheus_client import Counter, Gauge
from shared.config import Secret, setting
from shared.events import Event

SEEN = Counter("reference_test_seen", "Things seen", ["kind"])
BIG = SEEN.labels("big")
DEPTH = Gauge("reference_test_depth", "How deep")


@dataclass(frozen=True, slots=True)
class Whole:
    """`hub whole`."""

    path: Path = setting("T_PATH", "where")


@dataclass(frozen=True, slots=True)
class Part(Whole):
    key: Secret = setting("T_KEY", "key", default=Secret())
    names: tuple[str, ...] = setting("T_NAMES", "names", default=("a", "b"))
    on: bool = setting("T_ON", "whether", default=True)
    file: Path | None = setting("T_FILE", "file", default=None)
    wait_s: float = setting("T_WAIT_S", "wait", default=10.0)


@dataclass(frozen=True, slots=True)
class BigSeen(Event):
    """A big one
    was seen."""

    sizes: dict[str, int]
    where: str | None

    def measure(self) -> None:
        BIG.inc()
        DEPTH.set(1)
'''


def test_what_a_module_declares(tmp_path: Path) -> None:
    file = tmp_path / "reference_test_declaring.py"
    file.write_text(DECLARING)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    before = set(REGISTRY._collector_to_names)
    try:
        spec.loader.exec_module(module)
        fresh = set(REGISTRY._collector_to_names) - before
        known = declared.metrics([module], of=fresh)
        assert [(m.exposed, m.type, m.text) for m in known.values()] == [
            ("reference_test_seen_total", "counter", "Things seen"),
            ("reference_test_depth", "gauge", "How deep"),
        ]
        assert [(label.name, label.values) for label in known[module.SEEN].labels] == [("kind", ("big",))]
        (event,) = declared.log_events([module], known)
        assert (event.name, event.level, event.text) == ("big_seen", "info", "A big one was seen.")
        assert event.fields == (("sizes", "object of number"), ("where", "text or null"))
        assert event.moves == ("reference_test_depth", "reference_test_seen_total")
        (config,) = declared.configs([module])
        assert (config.name, config.text) == ("Part", "")
        assert [(one.env, one.type, one.default) for one in config.settings] == [
            ("T_PATH", "path", None),
            ("T_KEY", "text, never shown", None),
            ("T_NAMES", "list, separated by commas", "a,b"),
            ("T_ON", "on or off", "on"),
            ("T_FILE", "path", ""),
            ("T_WAIT_S", "number", "10"),
        ]
        del module.DEPTH
        with pytest.raises(LookupError, match="reference_test_depth"):
            declared.metrics([module], of=fresh)
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)
        del sys.modules[file.stem]


def test_commands_are_told_without_argparse_layout() -> None:
    parser = argparse.ArgumentParser(prog="tool", description="Does things.", epilog="example: tool add x")
    add = parser.add_subparsers(required=True).add_parser("add", help="add one")
    add.add_argument("id", metavar="ID", nargs="?", help="which")
    add.add_argument("--kind", choices=["a", "b"], required=True, help="of %(choices)s")
    add.add_argument("--label", action="append", metavar="N=V", help="a mark")
    add.add_argument("--json", action="store_true", help="as JSON")
    top, only = doors.commands(parser)
    assert (top.words, top.text, top.example, top.group) == (("tool",), "Does things.", "example: tool add x", True)
    assert (only.words, only.text, only.group) == (("tool", "add"), "Add one", False)
    assert [(one.spelled, one.required, one.text) for one in only.options] == [
        ("ID", False, "which"),
        ("--kind {a,b}", True, "of a, b"),
        ("--label N=V", False, "a mark (may be repeated)"),
        ("--json", False, "as JSON"),
    ]
    page = lists.commands(Facts(commands=(top, only)))
    assert "tool add [ID] --kind {a,b} [--label N=V] [--json]" in page
    assert "Example: `tool add x`" in page


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (
            "Does it.\n\nExit status: 0 done, 1 failed\nor so, 4 later (2 s). More.",
            "0=done 1=failed or so 4=later (2 s)",
        ),
        ("Exit status: 0 done.", "0=done"),
        ("Says nothing of it.", ""),
        (None, ""),
    ],
)
def test_exit_statuses(docstring: str | None, expected: str) -> None:
    assert " ".join(f"{number}={meaning}" for number, meaning in doors.exit_statuses(docstring)) == expected


def test_constants_and_members(tmp_path: Path) -> None:
    file = tmp_path / "words.py"
    file.write_text(
        '"""Module."""\nA = 1\nB = 2  # the second\n"""Both of\nthem."""\nC = 3\n\nD = 4\n_E = 5\n'
        'class Word(str):\n    """Words."""\n    X = "x"  # the x\n    Y = "y"\n'
    )
    assert [(group.names, group.text) for group in source.constants(file)] == [
        (("A", "B"), "the second Both of them."),
        (("C",), ""),
        (("D",), ""),
    ]
    assert source.members(file, "Word") == {"X": "the x", "Y": ""}
    with pytest.raises(LookupError, match="Missing"):
        source.members(file, "Missing")


def test_json_schemas_in_words() -> None:
    schema = {
        "title": "T",
        "description": "about it",
        "required": ["a"],
        "properties": {
            "a": {"type": "integer", "minimum": 1, "description": "first"},
            "b": {"type": ["string", "null"], "format": "date-time"},
            "c": {"type": "array", "items": {"type": "object", "properties": {"d": {"enum": ["x", "y"]}}}},
            "e": {"anyOf": [{"$ref": "#/components/schemas/Kind"}, {"type": "null"}]},
            "f": {"type": "object", "additionalProperties": {"type": "number"}, "maxProperties": 3},
            "g": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string", "pattern": "^x$"}]},
        },
    }
    found = json_words.document("T", schema)
    assert (found.title, found.text) == ("", "about it")
    assert found.fields == (
        Field("a", "integer (at least 1)", True, "first"),
        Field("b", "time (RFC 3339) or null", False, ""),
        Field("c", "list of object", False, ""),
        Field("c[].d", "`x` or `y`", False, ""),
        Field("e", "Kind or null", False, ""),
        Field("f", "object of number (at most 3)", False, ""),
        Field("g", "list of integer, string `^x$`", False, ""),
    )
    assert json_words.document("K", {"enum": ["x"], "description": "Kinds."}).text == "Kinds. One of `x`."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <key id> & *b*", r"a &lt;key id> &amp; \*b\*"),
        ("say `<b>_*` and\n more", "say `<b>_*` and more"),
        ("one ` alone", "one \\` alone"),
        ("snake_case and _edge_", r"snake_case and \_edge\_"),
    ],
)
def test_prose_shows_what_stands_in_the_text(text: str, expected: str) -> None:
    assert markdown.prose(text) == expected


def test_tables() -> None:
    assert markdown.table(("a", "b"), [("x|y", "")]) == "| a | b |\n| --- | --- |\n| x\\|y |  |\n"
    assert markdown.table(("a",), []) == ""
    assert markdown.anchor("POST /v1/x/{id}:do it") == "post-v1xiddo-it"


def test_links_within_the_pages_lead_somewhere(facts: Facts) -> None:
    for name, page in reference.pages(facts).items():
        anchors = {markdown.anchor(line.lstrip("#").strip()) for line in page.splitlines() if line.startswith("#")}
        for target in re.findall(r"\]\(#([^)]*)\)", page):
            assert target in anchors, f"{name}: #{target}"


def test_a_process_has_what_it_imports_and_no_more() -> None:
    assert "hub analytics normalizer" not in processes.having("shared.lifecycle")  # Quix owns its main thread
    assert "hub analytics sink" in processes.having("shared.lifecycle")
    assert processes.having("control_plane.ingest.events") == ("hub ingest",)
    assert processes.having("edge_agent.uplink_events") == ("edge-agent run",)
    assert processes.in_words(()) == "No process yet"
    assert processes.in_words(tuple(processes.PROCESSES)) == "Every process"
    assert processes.in_words(("a", "b")) == "`a`, `b`"


def test_every_process_that_is_served_is_listed() -> None:
    assert {f"hub {' '.join(words)}" for words in SERVICES.values()} <= processes.PROCESSES.keys()
    assert set(processes.PROCESSES.values()) <= processes.modules().keys()


def test_every_schema_is_in_a_topic(facts: Facts) -> None:
    assert {kind for topic in facts.topics for kind in topic.types} >= set(survey.schema_names())


def _series() -> set[str]:
    """What the alerts ask of our processes."""
    text = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
    expressions = " ".join(re.findall(r"expr:(.*?)\n +(?:for|labels):", text, re.DOTALL))
    bare = re.sub(r"\{[^}]*\}|\b(?:by|without) \([^)]*\)", "", expressions)
    return set(re.findall(r"\b[a-z]+_[a-z0-9_]+\b(?!\()", bare))


def test_alerts_watch_only_what_is_exposed(facts: Facts) -> None:
    exposed = {metric.exposed for metric in facts.metrics}
    exposed |= {f"{metric.exposed}_bucket" for metric in facts.metrics if metric.type == "histogram"}
    assert len(_series()) > 25
    assert _series() <= exposed


def test_every_alert_is_in_the_docs() -> None:
    alerts = re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))
    told = (processes.ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    assert [alert for alert in alerts if f"`{alert}`" not in told] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (package prometheus) is not installed")
@pytest.mark.parametrize("what", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_agrees(what: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *what], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_scrapes_the_services_where_the_supervisor_puts_them() -> None:
    """Port of the supervisor, then its services in the order of `hub status`."""
    text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    base = int(re.findall(r"HUB_HEALTH_BASE_PORT=(\d+)", text)[0])
    scraped = dict(re.findall(r'targets: \["127\.0\.0\.1:(\d+)"\]\s+labels: \{process: (\w+)\}', text))
    wanted = {str(base): "supervisor"} | {str(base + number): name for number, name in enumerate(SERVICES, start=1)}
    assert scraped == wanted
