"""A process that outlives the command that started it, known again by its pid and its start.

Promises: a process is ours only if pid, start time and boot agree with its record, so a pid that the kernel gave to
somebody else is never signalled; waiting is on the process itself (pidfd), not on a guess.
"""

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LAUNCH = """
umask 077
stat=$(cat /proc/$$/stat)
set -- $(printf '%s' "${stat##*) }" | cut -d' ' -f20) "$@"
printf '%s %s %s\\n' $$ "$1" "$(cat /proc/sys/kernel/random/boot_id)" > "$PID_FILE.new"
mv "$PID_FILE.new" "$PID_FILE"
cat "$PID_FILE"
shift
exec "$@" >>"$LOG_FILE" 2>&1
"""
"""The shell becomes the server, so its pid is the server's. The record is written before there is a server: whoever
is killed in between leaves no server without a record. Its standard output closes at the exec, which tells us so."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot: pid and start time in clock ticks since boot."""

    pid: int
    started: int
    boot: str

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        fields = stat.rpartition(") ")[2].split()
        return fields[0] not in "ZX" and int(fields[19]) == self.started and self.boot == _boot_id()

    def send(self, number: signal.Signals, wait_s: float) -> bool:
        """Signal it and wait until it has ended; False if it still runs after `wait_s`."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive():
                return True
            signal.pidfd_send_signal(handle, number)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(wait_s * 1_000))
        finally:
            os.close(handle)


def runs(pid: int, word: str) -> bool:
    """Whether this pid is a process, not a zombie, with `word` somewhere in its command line."""
    try:
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()  # a zombie's is empty
    except OSError:
        return False


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def recorded(pid_file: Path) -> Process | None:
    """The process of this record if it still runs."""
    try:
        words = pid_file.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    if len(words) != 3 or not words[0].isdigit() or not words[1].isdigit():
        return None
    process = Process(int(words[0]), int(words[1]), words[2])
    return process if process.alive() else None


def launch(command: Sequence[str], *, pid_file: Path, log_file: Path, cwd: Path, env: Mapping[str, str]) -> Process:
    """Start `command` in a session of its own, adopted by init, output to `log_file`; returns when it is executed."""
    done = subprocess.run(
        ["setsid", "--fork", "sh", "-c", _LAUNCH, "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=cwd,
        env={**env, "PID_FILE": str(pid_file), "LOG_FILE": str(log_file)},
        check=True,
        text=True,
    )
    pid, started, boot = done.stdout.split()
    return Process(int(pid), int(started), boot)
