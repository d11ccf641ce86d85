"""A service for the supervisor's tests: writes its pid, answers for its health, and ends in the way it is told."""

import os
import signal
import sys
import threading
from pathlib import Path

from shared.health import Health
from shared.lifecycle import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(os.environ["HUB_SUPERVISOR_PID"]))
    manner, pid_file = sys.argv[1], Path(sys.argv[2])
    if manner == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    missing = ["it is never ready"] if manner == "unready" else []
    health = Health("127.0.0.1", int(os.environ["HUB_HEALTH_PORT"]), lambda: missing)
    with pid_file.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if manner == "dying":
        sys.exit(7)
    if manner == "unfit":
        sys.exit(2)
    threading.Event().wait()
