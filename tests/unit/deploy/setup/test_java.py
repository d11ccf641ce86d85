"""Any Java of at least 17 will do, whatever else is installed."""

from pathlib import Path

import pytest

from deploy.setup import java


def _java(folder: Path, says: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_392"', 1),
        ("not a java", 0),
    ],
)
def test_versions(tmp_path: Path, says: str, version: int) -> None:
    assert java.version_of(_java(tmp_path, says)) == version


def test_an_absent_java_has_no_version(tmp_path: Path) -> None:
    assert java.version_of(tmp_path / "java") == 0


def test_an_old_java_home_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = _java(tmp_path / "old", 'java version "11.0.2"')
    new = _java(tmp_path / "new", 'openjdk version "25" 2025-09-16')
    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    monkeypatch.setenv("PATH", f"{new.parent}:/usr/bin:/bin")
    assert java.find_java() == new
    monkeypatch.setenv("JAVA_HOME", str(new.parents[1]))
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    assert java.find_java() == new
