"""The house's rules, read from the source with ast: who may import whom, and what is pure.

That each source file has its test: tests/unit/test_own_tests.py; that links lead somewhere: tests/unit/test_links.py.

Each rule is a test whose failure names file and line. What may break a rule stands in a list here, with its reason.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("shared", "edge_agent", "control_plane")
TOOLS = "deploy"  # drives the rooms as a user would; it may import any of them

CLIENTS = {
    "aiomqtt": {
        "control_plane.ingest.aiomqtt_reader",
        "control_plane.ingest.broker_watch",
        "control_plane.registry.broker",
        "control_plane.registry.key_watch",
        "edge_agent.mqtt",
    },
    "paho": {
        "control_plane.ingest.aiomqtt_reader",
        "control_plane.registry.key_watch",
        "edge_agent.mqtt",
    },
    "aiokafka": {
        "control_plane.db.kafka",
        "control_plane.ingest.limits_reader",
        "control_plane.ingest.producer",
        "control_plane.ingest.tail",
        "control_plane.registry.relay",
        "control_plane.registry.quarantine.court",
        "control_plane.analytics.deadletters",
        "control_plane.analytics.registry_view",
        "control_plane.analytics.sink",
        "control_plane.analytics.telemetry_tail",
    },
    "asyncpg": {
        "control_plane.db.connect",
        "control_plane.db.migrate",
        "control_plane.ingest.lease_keeper",
        "control_plane.registry.access.audit_store",
        "control_plane.registry.store",
        "control_plane.registry.leader",
        "control_plane.registry.fleet.changes",
        "control_plane.registry.fleet.finder",
        "control_plane.registry.fleet.groups",
        "control_plane.analytics.registry_view",
        "control_plane.analytics.sink_store",
    },
    "httpx": {"control_plane.registry.rest_client"},
    "quixstreams": {"control_plane.analytics.quix_job"},
    "confluent_kafka": {"control_plane.analytics.quix_job"},
    "grpc": set(),
    "sqlite3": set(),  # the edge's own, see below
}
"""The shells in which a client library may appear; everybody else asks them."""
CLIENTS["sqlite3"] = {"edge_agent"}  # its whole outbox is one: every file of edge_agent that is not PURE

PLAIN = {
    *("shared.errors", "shared.ids", "shared.config", "shared.clock"),
    *("edge_agent.anomaly.detector", "edge_agent.anomaly.models"),  # River's class below it; the state is of theirs
}
"""Not PURE (they draw ids, read files or clocks), but what a PURE file takes from them are words and types."""

NOT_IN_PURE = {
    *("asyncio", "concurrent", "ctypes", "fcntl", "http", "importlib", "io", "logging", "mmap", "multiprocessing"),
    *("os", "pathlib", "queue", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl"),
    *("subprocess", "tempfile", "threading", "time", "urllib"),
    *("aiokafka", "aiomqtt", "asyncpg", "confluent_kafka", "fastapi", "grpc", "httpx", "opentelemetry", "paho"),
    *("prometheus_client", "quixstreams", "sqlite_utils", "starlette", "uvicorn"),
}
ONLY_FROM = {
    "random": {"Random"},  # a generator that is given, or made from a given seed
    "sys": {"byteorder", "getsizeof", "intern", "maxsize", "float_info"},
}
CLOCK_CALLS = {"now", "utcnow", "today"}
NOT_CALLED_IN_PURE = {"open", "print", "input", "exec", "eval", "breakpoint"}

BUILDERS = {"__main__", "agent", "supervisor"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "stuff"}
FILE_LINES, FUNCTION_LINES = 420, 75  # a little above the 400 and 70 that we aim at, for a last blank or a signature


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: Path
    name: str
    tree: ast.Module

    @property
    def pure(self) -> bool:
        return "PURE" in (ast.get_docstring(self.tree) or "")

    def imports(self) -> Iterator[tuple[str, int]]:
        """Dotted names with their lines; `from a import b` is `a` and `a.b`. Those for type checkers are left out."""
        skipped = {id(node) for block in ast.walk(self.tree) if _for_types(block) for node in ast.walk(block)}
        for node in ast.walk(self.tree):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno} imports relatively"
                yield str(node.module), node.lineno
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def modules() -> dict[str, Module]:
    """The rooms' source files by dotted name."""
    return _modules(*ROOMS)


def tools() -> dict[str, Module]:
    """Those of `deploy`."""
    return _modules(TOOLS)


@functools.cache
def _modules(*rooms: str) -> dict[str, Module]:
    found = {}
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if relative.parts[:2] == ("shared", "pb"):
                continue
            parts = relative.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(relative, name, ast.parse(path.read_text(encoding="utf-8")))
    return found


def ours(name: str) -> str | None:
    """The module of ours that a dotted name is or lies in."""
    while name:
        if name in modules():
            return name
        name = name.rpartition(".")[0]
    return None


def allowed(importer: str, imported: str) -> bool:
    """Whether one module of ours may import another."""
    mine, theirs = importer.split("."), imported.split(".")
    if theirs[0] == "shared":
        return True
    if mine[0] != theirs[0] or mine[0] == "shared":
        return False
    if mine[0] == "edge_agent":
        return mine[1:2] == ["sim"] or theirs[1:2] != ["sim"]
    if mine == ["control_plane", "__main__"]:
        return len(theirs) < 3 or theirs[2] == "cli"
    if len(mine) < 3:  # beside the rooms: serve and status
        return len(theirs) < 3
    return theirs[1] in ("db", mine[1]) if len(theirs) > 1 else True


def problems_of_rooms() -> list[str]:
    return [
        f"{module.path}:{line} imports {name}"
        for module in modules().values()
        for name, line in module.imports()
        if (target := ours(name)) and not allowed(module.name, target)
    ]


def problems_of_builders() -> list[str]:
    found = []
    for module in modules().values():
        for name, line in module.imports():
            target = ours(name)
            is_builder = target is not None and target.rpartition(".")[2] in BUILDERS
            if is_builder and module.name.rpartition(".")[2] not in BUILDERS:
                found.append(f"{module.path}:{line} imports the builder {target}")
    return found


def problems_of_clients() -> list[str]:
    found = []
    for module in modules().values():
        for name, line in module.imports():
            library = name.split(".")[0]
            shells = CLIENTS.get(library)
            if shells is None:
                continue
            if library == "sqlite3" and module.name.split(".")[0] in shells and not module.pure:
                continue
            if module.name not in shells:
                found.append(f"{module.path}:{line} imports {library}")
    return list(dict.fromkeys(found))


def problems_of_purity() -> list[str]:
    found = []
    for module in modules().values():
        if not module.pure:
            continue
        for name, line in module.imports():
            target = ours(name)
            top = name.split(".")[0]
            if top in NOT_IN_PURE:
                found.append(f"{module.path}:{line} is PURE and imports {name}")
            elif target and not (modules()[target].pure or target in PLAIN or says_nothing(modules()[target].tree)):
                found.append(f"{module.path}:{line} is PURE and imports {target}, which is not")
            elif top in ONLY_FROM and name != top and name.partition(".")[2] not in ONLY_FROM[top]:
                found.append(f"{module.path}:{line} is PURE and imports {name}")
        found += [f"{module.path}:{line} is PURE and {what}" for what, line in _impure_uses(module.tree)]
    return list(dict.fromkeys(found))


def _impure_uses(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            library = node.value.id
            if library in ONLY_FROM and node.attr not in ONLY_FROM[library]:
                yield f"uses {library}.{node.attr}", node.lineno
            if library in ("datetime", "date") and node.attr in CLOCK_CALLS:
                yield f"reads the clock by {library}.{node.attr}", node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NOT_CALLED_IN_PURE:
            yield f"calls {node.func.id}", node.lineno


def problems_of_names() -> list[str]:
    found = []
    for module in modules().values():
        words = {word for part in module.path.with_suffix("").parts for word in part.split("_")}
        classes = {
            word.lower()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ClassDef)
            for word in ("Manager", "Utils", "Helper", "Helpers")
            if node.name.endswith(word)
        }
        found += [f"{module.path} is called {word}" for word in sorted(words & VAGUE | classes)]
    return found


def problems_of_size() -> list[str]:
    found = []
    for module in [*modules().values(), *tools().values()]:
        lines = len((ROOT / module.path).read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES:
            found.append(f"{module.path} has {lines} lines")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(f"{module.path}:{node.lineno} {node.name} has {length} lines")
    return found


def problems_of_docstrings() -> list[str]:
    return [
        f"{module.path} says nothing of itself"
        for module in [*modules().values(), *tools().values()]
        if module.tree.body and not ast.get_docstring(module.tree)
    ]


def says_nothing(tree: ast.Module) -> bool:
    """Empty, or a docstring and what it re-exports."""
    kinds = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
    return all(isinstance(node, kinds) for node in tree.body) and not any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) != "__all__" for node in tree.body
    )


RULES = {
    "rooms import only what they may": problems_of_rooms,
    "builders are imported by nobody": problems_of_builders,
    "client libraries appear only in their shells": problems_of_clients,
    "pure files touch nothing": problems_of_purity,
    "names say what a thing is": problems_of_names,
    "files and functions are short": problems_of_size,
    "every file says what it promises": problems_of_docstrings,
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    found = RULES[rule]()
    assert found == [], f"{rule}:\n" + "\n".join(found)


NOT_IN_RESIDENT_AGENT = (
    "grpc",
    "httpx",
    "cryptography",
    "opentelemetry",
    "river.anomaly",
    "scipy",
    "numpy",
    "pandas",
)


def test_the_resident_agent_carries_no_heavy_library() -> None:
    """Its calls to the hub run in children; tracing and River's own models load only when configured."""
    program = "import sys, edge_agent.agent; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()
    heavy = {name for name in loaded for library in NOT_IN_RESIDENT_AGENT if f"{name}.".startswith(f"{library}.")}
    assert heavy == set()
    assert "edge_agent.agent" in loaded


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("shared.ids", "shared.errors", True),
        ("shared.ids", "edge_agent.agent", False),
        ("edge_agent.intake", "shared.ids", True),
        ("edge_agent.intake", "control_plane.db.connect", False),
        ("edge_agent.intake", "edge_agent.sim.device", False),
        ("edge_agent.sim.fleet", "edge_agent.warm", True),
        ("control_plane.ingest.bridge", "control_plane.db.connect", True),
        ("control_plane.ingest.bridge", "control_plane.registry.store", False),
        ("control_plane.db.connect", "control_plane.registry.store", False),
        ("control_plane.supervisor", "control_plane.restart", True),
        ("control_plane.supervisor", "control_plane.registry.store", False),
        ("control_plane.__main__", "control_plane.registry.cli", True),
        ("control_plane.__main__", "control_plane.registry.store", False),
    ],
)
def test_the_rule_of_rooms_itself(importer: str, imported: str, expected: bool) -> None:
    assert allowed(importer, imported) is expected


@pytest.mark.parametrize(
    "source",
    [
        "import random\nrandom.random()",
        "from datetime import datetime\ndatetime.now()",
        "open('x')",
        "import sys\nsys.argv",
    ],
)
def test_the_rule_of_purity_itself(source: str) -> None:
    assert list(_impure_uses(ast.parse(source)))
