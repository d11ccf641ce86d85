from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.config import ConfigError, Secret, load, read_secret, read_secret_line, read_toml, setting


@dataclass(frozen=True, slots=True)
class Config:
    url: str = setting("X_URL", "where to")
    key: Secret = setting("X_KEY", "with what", default=Secret(""))
    every_ms: int = setting("X_EVERY_MS", "how often", default=50)
    ratio: float = setting("X_RATIO", "share", default=0.5)
    scoring: bool = setting("X_SCORING", "whether", default=True)
    path: Path | None = setting("X_PATH", "a file", default=None)
    names: tuple[str, ...] = setting("X_NAMES", "which", default=())

    def problems(self) -> list[str]:
        return ["X_EVERY_MS: at least 1"] if self.every_ms < 1 else []


def test_environment_wins_over_file_and_file_over_default():
    config = load(Config, {"X_URL": "u", "X_RATIO": "0.25", "X_NAMES": "a,b"}, {"every_ms": 5, "ratio": 0.9})
    assert config == Config("u", every_ms=5, ratio=0.25, names=("a", "b"))


@pytest.mark.parametrize(("text", "value"), [("on", True), ("0", False), ("TRUE", True), ("no", False)])
def test_booleans_have_words(text, value):
    assert load(Config, {"X_URL": "u", "X_SCORING": text}).scoring is value


def test_an_optional_setting_can_be_emptied():
    assert load(Config, {"X_URL": "u", "X_PATH": ""}).path is None
    assert load(Config, {"X_URL": "u", "X_PATH": "/a"}).path == Path("/a")


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        load(Config, {"X_EVERY_MS": "soon", "X_SCORING": "perhaps"}, {"colour": "red", "ratio": "half"})
    text = str(caught.value)
    for mistake in (
        "colour: unknown",
        "X_URL: missing (where to)",
        "'soon' is not a whole number",
        "'perhaps'",
        "'half'",
    ):
        assert mistake in text
    assert len(caught.value.mistakes) == 5


def test_rules_over_fields_are_judged_last():
    with pytest.raises(ConfigError, match="at least 1"):
        load(Config, {"X_URL": "u", "X_EVERY_MS": "0"})


def test_a_secret_does_not_show_itself():
    config = load(Config, {"X_URL": "u", "X_KEY": "hunter2"})
    assert config.key == "hunter2"
    assert "hunter2" not in repr(config)


def test_a_file_is_toml_or_a_mistake(tmp_path):
    good = tmp_path / "good.toml"
    good.write_text('url = "u"\n')
    assert read_toml(good) == {"url": "u"}
    assert read_toml(None) == {}
    bad = tmp_path / "bad.toml"
    bad.write_text("url =")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        read_toml(bad)
    with pytest.raises(ConfigError, match="absent"):
        read_toml(tmp_path / "absent")


def test_a_secret_file_is_its_owners_alone(tmp_path):
    path = tmp_path / "key"
    with pytest.raises(ConfigError, match="No such file"):
        read_secret(path)
    path.write_text("k:x.secret\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path) == "k:x.secret"
    path.write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        read_secret(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"wr\xc3\xa9ng", b"abc\ndef", b"a\tb"])
def test_a_token_is_one_line_and_is_not_quoted_where_it_is_none(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_secret_line(path)
    assert str(path) in str(caught.value)
    assert not any(word in str(caught.value) for word in ("abc", "def", "wr"))
    path.write_bytes(b"t-abc.S3cret\n")
    assert read_secret_line(path) == "t-abc.S3cret"


def test_a_table_that_is_not_text_is_a_mistake(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"agent\.toml"):
        read_toml(path)
