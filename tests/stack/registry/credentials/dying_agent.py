"""An agent that is killed at a step of its key's rotation: `python -m ... before|after STEP`.

STEP is a method of KeyFiles, or `call` for the request to the hub. The kill is the real one.
"""

import os
import signal
import sys
from typing import Any

from edge_agent import __main__, key_files, key_keeper


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(when: str, step: str) -> None:
    """Be killed before or after the first time of the step."""
    if step == "call":
        real_call = key_keeper.call

        async def call(hub: Any, request: Any) -> Any:
            if request.method == "POST" and when == "before":
                die()
            answer = await real_call(hub, request)
            if request.method == "POST":
                die()
            return answer

        key_keeper.KeyKeeper.__init__.__defaults__ = (call,)  # type: ignore[misc]  # what `agent` leaves out
        return
    real = getattr(key_files.KeyFiles, step)

    def dying(self: Any, *arguments: Any) -> Any:
        if when == "before":
            die()
        real(self, *arguments)
        die()

    setattr(key_files.KeyFiles, step, dying)


if __name__ == "__main__":
    arm(*sys.argv[1:3])
    sys.exit(__main__.main(["run"]))
