import subprocess
import sys
import textwrap
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from edge_agent.running import Claim, Running, fetch, find
from shared.errors import Permanent, Transient

HOLDER = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from edge_agent.running import Claim, Running
    with Claim(Path(sys.argv[1])) as claim:
        if len(sys.argv) > 2:
            claim.announce(Running(os.getpid(), "127.0.0.1", int(sys.argv[2])))
        print("held", flush=True)
        sys.stdin.read()
""")


class Holder:
    """Another process that holds a directory until it is killed."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"held\n"

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_directory_is_held_by_one_process_and_free_when_it_is_killed(tmp_path: Path) -> None:
    with Holder(str(tmp_path), "4711") as process:
        assert find(tmp_path) == Running(process.pid, "127.0.0.1", 4711)
        with pytest.raises(Permanent, match="in use by another"), Claim(tmp_path):
            pass
        assert find(tmp_path) == Running(process.pid, "127.0.0.1", 4711)
    assert find(tmp_path) is None
    with Claim(tmp_path):
        pass


def test_a_holder_that_has_not_spoken_yet_has_no_port(tmp_path: Path) -> None:
    with Holder(str(tmp_path)) as process:
        assert find(tmp_path) == Running(process.pid, "", 0)


def test_what_a_killed_agent_left_is_not_taken_for_its_successors(tmp_path: Path) -> None:
    with Holder(str(tmp_path), "4711"):
        pass
    with Holder(str(tmp_path)) as process:
        assert find(tmp_path) == Running(process.pid, "", 0)


def test_asking_never_turns_a_starting_agent_away(tmp_path: Path) -> None:
    (tmp_path / "agent.lock").touch()
    script = "import sys; from pathlib import Path; from edge_agent.running import find\nprint('on', flush=True)\n"
    script += "while True: find(Path(sys.argv[1]))"
    asking = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"on\n"
        for _ in range(300):
            with Claim(tmp_path):
                pass
    finally:
        asking.kill()
        asking.communicate()


def test_no_directory_no_agent(tmp_path: Path) -> None:
    assert find(tmp_path / "missing") is None


def test_a_directory_that_cannot_be_made_is_permanent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Permanent, match="AGENT_DATA_DIR"), Claim(tmp_path / "file"):
        pass


def test_pages_are_fetched_and_silence_is_transient() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Page)
    running = Running(1, "127.0.0.1", server.server_port)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        assert fetch(running, "/readyz") == (503, b"/readyz")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with pytest.raises(Transient, match="does not answer"):
        fetch(running, "/readyz")
