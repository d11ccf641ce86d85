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

from edge_agent.config import DATA_DIR, AgentConfig, load_config
from shared.config import ConfigError
from shared.errors import HubError, Transient
from shared.version import installed_version

_EXAMPLES = """examples:
  edge-agent enroll --hub https://hub.example:8443 --run < token
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
    try:
        command: Callable[..., int] = args.run
        if command is _enroll:
            return _enroll(args)  # it makes the configuration that all others read
        return command(load_config(os.environ), args)
    except ConfigError as error:
        if not _said_as_json(args, error):
            for mistake in error.mistakes:
                print(f"edge-agent: {mistake}", file=sys.stderr)
        return 2
    except HubError as error:
        if not _said_as_json(args, error):
            print(f"edge-agent: {error}", file=sys.stderr)
        return 4 if isinstance(error, Transient) else 1
    except KeyboardInterrupt:
        return 130  # as shells have it; whoever pressed Ctrl-C needs no trace of it


def _said_as_json(args: argparse.Namespace, error: HubError) -> bool:
    """`enroll --json` ends with one object on standard output, whatever happens."""
    if args.run is not _enroll or not args.json:
        return False
    message = str(error.args[0]) if error.args else ""
    body = {"kind": type(error).__name__, "message": message, "hint": error.hint}
    print(json.dumps({"error": body | {"transient": isinstance(error, Transient)}}))
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Takes telemetry from local devices, keeps it safe, scores it, and sends it to the hub.",
    )  # fmt: skip
    version = f"edge-agent {installed_version()}"
    parser.add_argument("--version", action="version", version=version, help="which version this is")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="be the agent, until SIGTERM")
    run.set_defaults(run=_run)
    _enroll_parser(commands)
    status = commands.add_parser("status", help="is it running and ready, and how many rows wait")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=_status)
    doctor = commands.add_parser("doctor", help="what stands between this gateway and the hub, and what to do")
    doctor.add_argument("--canary", action="store_true", help="send one reading through the whole path")
    doctor.add_argument("--json", action="store_true", help="print one JSON list, at the end")
    doctor.set_defaults(run=_doctor)
    rotate = commands.add_parser("rotate", help="replace this gateway's key now")
    rotate.add_argument("--json", action="store_true", help="print one JSON object")
    rotate.set_defaults(run=_rotate)
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


def _enroll_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    enroll = commands.add_parser(
        "enroll",
        help="get this gateway its identity from the hub, with an enrolment token",
        description="Makes a key pair, checks the hub's CA against the token, asks, and saves all that `run` needs.",
        epilog="example: edge-agent enroll --hub https://hub.example:8443 --run < token",
    )
    enroll.add_argument("--hub", required=True, metavar="URL", help="the hub's REST API, https://host:port")
    token = enroll.add_mutually_exclusive_group()
    token.add_argument("--token", help="the token; others on this machine can see it here: better one of the next")
    token.add_argument("--token-file", type=Path, metavar="FILE", help="a file of mode 0600 with the token")
    enroll.add_argument("--data-dir", type=Path, metavar="DIR", help="default: AGENT_DATA_DIR or /var/lib/edge-agent")
    enroll.add_argument(
        "--name", metavar="ID", help="the id that the gateway would like, if the hub does not know it"
    )
    enroll.add_argument("--serial", help="the hardware's serial number, where it does not tell itself")
    enroll.add_argument(
        "--hardware", metavar="TEXT", help="what names this hardware, where it has no name (containers)"
    )
    enroll.add_argument("--certificate", action="store_true", help="get a client certificate too")
    enroll.add_argument("--run", dest="then_run", action="store_true", help="run as the agent when enrolled")
    enroll.add_argument("--json", action="store_true", help="print one JSON object")
    enroll.set_defaults(run=_enroll)


def _enroll(args: argparse.Namespace) -> int:
    from dataclasses import replace  # noqa: PLC0415 - see above

    from edge_agent import enrol, hardware  # noqa: PLC0415

    if args.token:
        print(f"edge-agent: a token in the arguments is seen by others; use --token-file, {enrol.TOKEN_VARIABLE} or "
              "standard input", file=sys.stderr)  # fmt: skip
    token = enrol.read_token(args.token, args.token_file, os.environ, _typed_token)
    box = hardware.named(args.hardware) if args.hardware else hardware.look()
    if box is None:
        raise ConfigError(["this hardware has no name of its own: give it one with --hardware"])
    if args.serial:
        box = replace(box, serial=args.serial)
    data_dir = args.data_dir or Path(os.environ.get("AGENT_DATA_DIR") or DATA_DIR)
    found = enrol.enrol(enrol.Wish(args.hub, data_dir, args.name, args.certificate), token, box)
    if args.certificate and not found.certificate:
        print("edge-agent: the hub has no door for certificates; this gateway connects by its key", file=sys.stderr)
    if args.json:
        print(json.dumps({"gateway_id": found.gateway_id, "data_dir": str(data_dir), "devices": found.devices,
                          "certificate": found.certificate, "hardware": box.source}))  # fmt: skip
    else:
        print(f"enrolled as {found.gateway_id} at {found.hub}; it speaks for {found.devices} device(s)")
        if not args.then_run:
            print(f"run it: AGENT_DATA_DIR={data_dir} edge-agent run")
    if args.then_run:
        enrol.run(data_dir)
    return 0


def _typed_token() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    import getpass  # noqa: PLC0415 - for this prompt

    return getpass.getpass("enrolment token: ")


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


def _rotate(config: AgentConfig, args: argparse.Namespace) -> int:
    from edge_agent.key_command import rotate  # noqa: PLC0415 - see above

    found = rotate(config)
    if args.json:
        print(json.dumps(found))
    elif found["rotated"]:
        print(f"the key is {found['key_id']} now; {found['before']} ends at the hub")
    else:
        print("no agent runs here: it replaces the key when it is started")
    return 0


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
