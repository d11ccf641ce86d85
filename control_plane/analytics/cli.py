"""`hub analytics`, `hub telemetry`, `hub anomalies`, `hub deadletters`: gathers what the room's files register."""

import argparse

from control_plane.analytics import deadletters_cli, sink_cli


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this room's commands; each sets `run(args) -> int`."""
    jobs = commands.add_parser("analytics", help="run one analytics job").add_subparsers(
        title="jobs", required=True, metavar="JOB"
    )
    deadletters_cli.register(commands, jobs)
    sink_cli.register(commands, jobs)
