"""The agent's commands.

Exit status: 0 done, 1 failed or not well, 2 usage or configuration, 4 not now (try again), 130 Ctrl-C. Every
failure says what to do. What a command needs is imported by that command, so that the resident agent carries none of
the others.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_agent.config import AgentConfig, load_config
from shared.config import ConfigError
from shared.errors import HubError, Transient

_EXAMPLES = """examples:
  edge-agent run
  edge-agent status --json
  edge-agent doctor --canary
  edge-agent ledger
  edge-agent warm --csv history.csv --column temperature --device thermo-1 --metric temperature --interval 1

The configuration comes from the environment and from agent.toml in AGENT_DATA_DIR: see docs/agent.md.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(argv)
    command: Callable[[AgentConfig, argparse.Namespace], int] = args.run
    try:
        return command(load_config(os.environ), args)
    except ConfigError as error:
        for mistake in error.mistakes:
            print(f"edge-agent: {mistake}", file=sys.stderr)
        return 2
    except HubError as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        return 4 if isinstance(error, Transient) else 1
    except KeyboardInterrupt:
        return 130  # as shells have it; whoever pressed Ctrl-C needs no trace of it


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Takes telemetry from local devices, keeps it safe, scores it, and sends it to the hub.",
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="be the agent, until SIGTERM")
    run.set_defaults(run=_run)
    status = commands.add_parser("status", help="is it running and ready, and how many rows wait")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=_status)
    doctor = commands.add_parser("doctor", help="what stands between this gateway and the hub, and what to do")
    doctor.add_argument("--canary", action="store_true", help="send one reading through the whole path")
    doctor.add_argument("--json", action="store_true", help="print one JSON list, at the end")
    doctor.set_defaults(run=_doctor)
    ledger = commands.add_parser("ledger", help="what became of every accepted row")
    ledger.add_argument("--json", action="store_true", help="print one JSON object")
    ledger.set_defaults(run=_ledger)
    warm = commands.add_parser("warm", help="let detectors learn from history before the first live reading")
    warm.add_argument("--csv", type=Path, required=True, help="file with a header line, oldest row first")
    warm.add_argument("--column", help="its column (default: the metric's name)")
    warm.add_argument("--device", required=True, help="the device whose readings they are like")
    warm.add_argument("--metric", required=True, help="the metric of its readings")
    warm.add_argument("--interval", type=float, required=True, help="seconds between live readings")
    warm.add_argument("--json", action="store_true", help="print one JSON object")
    warm.set_defaults(run=_warm)
    return parser


def _run(config: AgentConfig, args: argparse.Namespace) -> int:
    del args
    from edge_agent.agent import run  # noqa: PLC0415 - builds the world

    return run(config, os.environ)


def _status(config: AgentConfig, args: argparse.Namespace) -> int:
    from edge_agent.status import as_text, status  # noqa: PLC0415 - see above

    found = status(config)
    print(json.dumps(found) if args.json else as_text(found))
    return 0 if found["ready"] else 1


def _doctor(config: AgentConfig, args: argparse.Namespace) -> int:
    from edge_agent.doctor import Finding, Verdict, examine  # noqa: PLC0415 - see above

    async def everything() -> list[Finding]:
        findings = []
        async for finding in examine(config, canary=args.canary):
            if not args.json:
                print(finding, flush=True)
            findings.append(finding)
        return findings

    findings = asyncio.run(everything())
    if args.json:
        print(json.dumps([finding.as_dict() for finding in findings]))
    return 1 if any(finding.verdict is Verdict.FAILED for finding in findings) else 0


def _ledger(config: AgentConfig, args: argparse.Namespace) -> int:
    from edge_agent.account import account, balances, table  # noqa: PLC0415 - see above

    found = account(config.data_dir, config.outbox_path)
    print(json.dumps(found) if args.json else table(found))
    return 0 if balances(found) else 1


def _warm(config: AgentConfig, args: argparse.Namespace) -> int:
    from edge_agent.warming import warm_file  # noqa: PLC0415 - see above

    report = warm_file(
        config, args.csv, args.column or args.metric, device=args.device, metric=args.metric, interval_s=args.interval
    )
    if args.json:
        print(json.dumps(report))
    else:
        print(f"learned {report['learned']} rows ({report['empty']} empty cells left out)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
