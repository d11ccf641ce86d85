"""Jars are fetched once per pom, and are there only when complete."""

import subprocess
from pathlib import Path

import pytest

from deploy.setup import kafka_jars


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A maven that does what `script` says; $OUT is where the jars belong."""
    program = tmp_path / "bin" / "mvn"
    program.parent.mkdir(exist_ok=True)
    find = 'for a in "$@"; do case "$a" in -DoutputDirectory=*) OUT="${a#*=}";; esac; done'
    program.write_text(f"#!/bin/sh\n{find}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_fetched_once_and_readable(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _maven(tmp_path, monkeypatch, 'umask 077; touch "$OUT/kafka_2.13.jar"')
    jars = kafka_jars.fetch_jars()
    assert jars.parent == cache
    assert jars.stat().st_mode & 0o055 == 0o055
    assert (jars / "kafka_2.13.jar").stat().st_mode & 0o044 == 0o044
    _maven(tmp_path, monkeypatch, "exit 1")
    assert kafka_jars.fetch_jars() == jars


def test_a_failure_leaves_nothing_and_shows_what_maven_said(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _maven(tmp_path, monkeypatch, 'touch "$OUT/half.jar"; echo no network; exit 1')
    with pytest.raises(subprocess.CalledProcessError):
        kafka_jars.fetch_jars()
    assert list(cache.iterdir()) == []
    assert "no network" in capfd.readouterr().err


def test_another_pom_is_another_directory(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kafka_jars.jar_directory()
    assert first.parent == cache
    pom = tmp_path / "pom.xml"
    pom.write_bytes(kafka_jars.POM.read_bytes() + b"\n")
    monkeypatch.setattr(kafka_jars, "POM", pom)
    assert kafka_jars.jar_directory() != first


def test_the_cache_of_a_user_is_below_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUB_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/x/.cache")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert kafka_jars.cache_directory() == Path("/home/x/.cache/bv-iot-control-hub")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert kafka_jars.cache_directory() == Path("/var/cache/bv-iot-control-hub")
