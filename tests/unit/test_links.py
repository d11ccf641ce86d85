"""What prose and source point to is there: relative links, and the paths of pages and tests that are named."""

import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("shared", "edge_agent", "control_plane", "deploy", "tests")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"(?<![\w/.-])(?:docs|tests)/[\w./*-]*\w")
"""A page or test that source or prose names by its path."""


def problems_of_links() -> list[str]:
    """Relative links of README and docs, and the paths of pages and tests that docs, docstrings and comments name."""
    found = []
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for target in LINK.findall(text):
            path = target.partition("#")[0]
            if path and "://" not in path and not path.startswith("mailto:") and not (page.parent / path).exists():
                found.append(f"{page.relative_to(ROOT)} links to {target}, which is not there")
        found += _absent(page, text)
    for folder in FOLDERS:
        for source in sorted((ROOT / folder).rglob("*.py")):
            found += _absent(source, source.read_text(encoding="utf-8"))
    return found


def _absent(file: Path, text: str) -> list[str]:
    names = {name for name in NAMED.findall(text) if not _is_there(name)}
    return [f"{file.relative_to(ROOT)} names {name}, which is not there" for name in sorted(names)]


@functools.cache
def _is_there(name: str) -> bool:
    """A path of ours, perhaps with wildcards, perhaps cut off (`docs/adr/0032`)."""
    return (ROOT / name).exists() or any(ROOT.glob(f"{name}*"))


def test_links_and_named_paths_lead_somewhere() -> None:
    assert problems_of_links() == []


def test_a_path_that_is_not_there_is_seen() -> None:
    page = ROOT / "README.md"
    gone = "docs/" + "gone.md"
    assert _absent(page, f"see {gone}, docs/adr/0032 and docs/*.md") == [
        f"README.md names {gone}, which is not there"
    ]
