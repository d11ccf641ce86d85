"""Which of our processes has what: a process has all that its module imports, directly or not."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("shared", "edge_agent", "control_plane")

PROCESSES = {
    "hub serve": "control_plane.supervisor",
    "hub api": "control_plane.registry.service",
    "hub ingest": "control_plane.ingest.service",
    "hub analytics normalizer": "control_plane.analytics.normalizer_job",
    "hub analytics detector": "control_plane.analytics.detector_job",
    "hub analytics forwarder": "control_plane.analytics.forwarder_job",
    "hub analytics sink": "control_plane.analytics.sink_job",
    "edge-agent run": "edge_agent.agent",
}
"""The processes that stay, and the module that builds each."""


def having(module: str) -> tuple[str, ...]:
    """The processes that have this module, in the order of `PROCESSES`."""
    return tuple(name for name, root in PROCESSES.items() if module in _reached(root))


def in_words(names: tuple[str, ...]) -> str:
    """Processes as a heading."""
    if names == tuple(PROCESSES):
        return "Every process"
    return ", ".join(f"`{name}`" for name in names) or "No process yet"


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def _reached(root: str) -> frozenset[str]:
    seen: set[str] = set()
    left = [root]
    while left:
        name = left.pop()
        if name not in seen and name in modules():
            seen.add(name)
            left += _imports(name)
    return frozenset(seen)


@functools.cache
def _imports(name: str) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)
