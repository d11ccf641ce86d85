"""`hub ingest`: the command that runs the service."""

import argparse
import os


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this room's commands; each sets `run(args) -> int`."""
    parser = commands.add_parser(
        "ingest",
        help="run the bridge from the broker to Kafka",
        description="Reads devices/+/telemetry and gateways/+/batches from the broker and writes them to "
        "iot.telemetry.raw.v1. One process works, others stand by for its place. Settings: docs/ingest.md.",
        epilog="example: hub ingest",
    )
    parser.set_defaults(run=_ingest)


def _ingest(args: argparse.Namespace) -> int:
    from control_plane.ingest import service  # noqa: PLC0415 - Kafka's client is loaded only where it works

    del args
    return service.main(os.environ)
