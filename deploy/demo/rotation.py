"""One gateway's key is replaced while its readings flow: by the agent itself, as `edge-agent rotate` asks it."""

import asyncio
import json

from deploy.demo.show import Progress
from deploy.site.installation import Installation
from shared.errors import Permanent

_AFTER_S = 3.0
"""Until readings flow."""


async def rotate(site: Installation, progress: Progress) -> dict[str, int]:
    """Of the last gateway, whose link nobody cuts. `rotations`: keys replaced and confirmed; `rotation_failures`."""
    await asyncio.sleep(_AFTER_S)
    name, gateway = list(site.gateways.items())[-1]
    try:
        said = json.loads(await asyncio.to_thread(gateway.command, "rotate", "--json"))
    except Permanent as error:  # a command that failed
        progress.say(f"the key of {name} was not replaced: {error.args[0]}")
        return {"rotations": 0, "rotation_failures": 1}
    progress.say(f"{name} replaced its key: {said['key_id']} in the place of {said['before']}")
    return {"rotations": int(said["rotated"]), "rotation_failures": int(not said["rotated"])}


def failures(found: dict[str, int]) -> list[str]:
    """What of this did not go as promised."""
    return [] if found["rotation_failures"] == 0 else ["a gateway could not replace its key"]
