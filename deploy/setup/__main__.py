"""`python3 -m deploy.setup [venv]`: make this machine ready, or only the virtual environment.

Exit status: 0 ready, 1 a step failed, 2 something must be done by hand (one sentence or one line says what).
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said before any newer syntax is read
    sys.exit("setup: Python 3.11 or later is needed, this is " + sys.version.split()[0])

import fcntl
import os
import subprocess
from pathlib import Path

from deploy.setup import packages
from deploy.setup.kafka_jars import fetch_jars, jar_directory
from deploy.setup.venv import make_venv


def _say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


def _prepare(*, servers: bool) -> None:
    missing = packages.missing_for_venv() + (packages.missing_for_stack() if servers else [])
    if missing:
        packages.install(missing, _say)
    make_venv(_say)
    if servers and not jar_directory().exists():
        _say("fetching Apache Kafka's jars with Maven (54 MB, once)")
        fetch_jars()


def main() -> int:
    """The steps in order; each does nothing if it was done before."""
    lock = os.open(Path(__file__).parent, os.O_RDONLY)  # two set-ups of one checkout take turns
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        _prepare(servers="venv" not in sys.argv[1:])
    except packages.NotReady as answer:
        _say(str(answer))
        return 2
    except subprocess.CalledProcessError as error:
        _say(f"failed with status {error.returncode}: {' '.join(error.cmd)}")
        return 1
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
