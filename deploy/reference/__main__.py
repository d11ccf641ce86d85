"""`python -m deploy.reference [--check]`: write docs/reference and the index of docs, or say what is stale.

Exit status: 0 done (or, with --check, nothing is stale), 1 stale, or something declared has no text.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from deploy.reference import contracts, lists, openings, survey
from deploy.reference.facts import Facts, joined
from deploy.reference.processes import ROOT

DOCS = ROOT / "docs"
_PACKAGES = ("control_plane", "edge_agent")
_MARK = "<!-- Made from the code by `make docs`. Do not edit. -->"
_TITLES = {
    "commands": "Commands",
    "configuration": "Configuration",
    "events": "Log events",
    "limits": "Limits",
    "metrics": "Metrics",
    "reasons": "Reject reasons",
    "rest": "REST",
    "topics": "Topics and event types",
}


def surveyed() -> Facts:
    """What all packages declare. Raises CalledProcessError if one cannot be imported; its words are on stderr."""
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", survey.__name__, package], stdout=subprocess.PIPE, cwd=ROOT, env=environment
        )
        for package in _PACKAGES
    ]
    outputs = [process.communicate()[0] for process in running]
    for process in running:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    return joined([msgspec.json.decode(out, type=Facts) for out in outputs])


def pages(facts: Facts) -> dict[str, str]:
    """Every reference page by its path in docs."""
    bodies = {
        "commands": lists.commands(facts),
        "configuration": lists.configuration(facts),
        "events": lists.log_events(facts),
        "limits": contracts.sizes(),
        "metrics": lists.metrics(facts),
        "reasons": contracts.reasons(),
        "rest": contracts.rest(facts),
        "topics": contracts.topics(facts, survey.schemas()),
    }
    return {
        f"reference/{name}.md": f"# {_TITLES[name]}\n\n{_MARK}\n\n{body.rstrip()}\n" for name, body in bodies.items()
    }


def index(docs: Path, made: dict[str, str]) -> dict[str, str]:
    """The front page of docs, by its path: every page with its title, those of `made` among them."""
    texts = {path.relative_to(docs).as_posix(): path.read_text(encoding="utf-8") for path in docs.rglob("*.md")}
    titles = {name: text.partition("\n")[0].lstrip("# ") for name, text in (texts | made).items()}
    sections = []
    for folder, heading in openings.SECTIONS.items():
        lines = [f"- [{titles[name]}]({name})" for name in sorted(titles) if name.rpartition("/")[0] == folder]
        lines = [line for line in lines if not line.endswith("README.md)")]
        sections += [f"## {heading}\n", "\n".join(lines) + "\n"] if lines else []
    return {"README.md": f"# Documentation\n\n{_MARK}\n\n{openings.INDEX}\n" + "\n".join(sections)}


def everything(facts: Facts, docs: Path) -> dict[str, str]:
    """All that `make docs` writes, by its path in docs."""
    made = pages(facts)
    return made | index(docs, made)


def stale(made: dict[str, str], docs: Path) -> list[str]:
    """What differs from what was made or is missing, and reference pages that nothing makes."""
    there = {path.relative_to(docs).as_posix(): path for path in (*docs.glob("reference/*.md"), docs / "README.md")}
    found = {name: path.read_text(encoding="utf-8") for name, path in there.items() if path.exists()}
    return sorted(name for name in made.keys() | found.keys() if made.get(name) != found.get(name))


def write(made: dict[str, str], docs: Path) -> None:
    """Write what is stale and remove what nothing makes any more."""
    for name in stale(made, docs):
        path = docs / name
        if name in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[name], encoding="utf-8")
        else:
            path.unlink()


def main(argv: Sequence[str]) -> int:
    """Write, or with `--check` only look; the exit status."""
    facts = surveyed()
    made = everything(facts, DOCS)
    gaps = lists.gaps(facts) + contracts.gaps()
    for gap in gaps:
        print(f"docs: {gap}", file=sys.stderr)
    if "--check" in argv:
        old = stale(made, DOCS)
        for name in old:
            print(f"docs: {name} is stale; run `make docs`", file=sys.stderr)
        return 1 if old or gaps else 0
    write(made, DOCS)
    return 1 if gaps else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
