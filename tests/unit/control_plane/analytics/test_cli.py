import argparse

import pytest

from control_plane.analytics import cli


def test_all_of_the_rooms_commands_are_there(capsys):
    top = argparse.ArgumentParser()
    cli.register(top.add_subparsers(required=True))
    for words in ("analytics normalizer", "analytics detector", "deadletters list", "telemetry tail", "anomalies"):
        with pytest.raises(SystemExit) as error:
            top.parse_args([*words.split(), "--help"])
        assert error.value.code == 0
    capsys.readouterr()
