import asyncio
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request

from shared import lifecycle
from shared.errors import Transient
from shared.health import Beat, Health


async def until_stopped(stopping):
    await stopping.wait()


def test_a_signal_lets_every_service_drain():
    drained = []

    async def drains(stopping):
        await stopping.wait()
        drained.append("a")

    async def signals(stopping):
        os.kill(os.getpid(), signal.SIGTERM)
        await stopping.wait()
        drained.append("b")

    assert lifecycle.run({"a": drains, "b": signals}) == 0
    assert sorted(drained) == ["a", "b"]


def test_one_that_fails_stops_the_others_and_decides_the_status():
    drained = []

    async def drains(stopping):
        await stopping.wait()
        drained.append(True)

    async def fails(_):
        raise Transient("kafka is away", hint="start it")

    assert lifecycle.run({"drains": drains, "fails": fails}) == 1
    assert drained == [True]


def test_a_loop_that_hangs_is_seen_from_outside_and_so_is_its_coming_back(monkeypatch):
    monkeypatch.setattr(lifecycle, "_BEAT_S", 0.01)
    beat = Beat(hung_s=0.2)
    health = Health("127.0.0.1", 0, list, beat=beat)
    seen, go_on = [], threading.Event()

    def ask():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{health.port}/healthz", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def watch(wanted):
        while ask() != wanted:
            pass
        seen.append(wanted)
        go_on.set()

    async def hangs(_):
        hung = threading.Thread(target=watch, args=(503,))
        hung.start()
        assert go_on.wait(10)  # blocks the loop
        back = asyncio.to_thread(watch, 200)
        await back

    try:
        assert lifecycle.run({"hangs": hangs}, beat=beat.stamp) == 0
    finally:
        health.close()
    assert seen == [503, 200]


def test_one_that_ends_stops_the_others():
    async def ends(_):
        return

    assert lifecycle.run({"a": until_stopped, "b": ends}) == 0


def test_one_that_hangs_is_cancelled_after_the_grace():
    cancelled = []

    async def hangs(stopping):
        await stopping.wait()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def ends(_):
        return

    assert lifecycle.run({"hangs": hangs, "ends": ends}, grace_s=0.05) == 1
    assert cancelled == [True]


def test_a_child_dies_with_its_parent():
    child = (
        "import os,time;from shared import lifecycle;lifecycle.die_with_parent(os.getppid());"
        "print(os.getpid(),flush=True);time.sleep(60)"
    )
    parent = textwrap.dedent(f"""
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", {child!r}], stdout=subprocess.PIPE)
        print(child.stdout.readline().decode(), flush=True)
        sys.stdin.read()
    """)
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = int(process.stdout.readline())
    handle = os.pidfd_open(pid)
    try:
        process.kill()
        process.wait()
        assert select.select([handle], [], [], 10)[0], "the child outlived its parent"
    finally:
        os.close(handle)
        process.stdin.close()
        process.stdout.close()


def test_an_orphan_ends_at_once():
    code = "from shared import lifecycle;lifecycle.die_with_parent(1 << 22);print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""
