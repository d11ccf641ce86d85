"""The policy `limits`: what a device may send for which neither it nor its type has limits of its own. PURE."""

from typing import ClassVar

from control_plane.registry.policy import Policy
from control_plane.registry.problem import FieldError
from shared.rates import DEVICE, GATEWAY, Rates


class LimitsPolicy(Policy, frozen=True, forbid_unknown_fields=True):
    """Sustained rates; after a pause a device may send `burst_s` seconds' worth of them at once.

    `device`: one that is attached to the hub itself; its excess is refused. `gateway`: one over these is told to send
    more slowly, and nothing of it is refused.
    """

    NAME: ClassVar[str] = "limits"

    device: Rates = DEVICE
    gateway: Rates = GATEWAY

    def problems(self) -> list[FieldError]:
        """No rate is 0: that would be a quarantine without its evidence."""
        found = []
        for kind in ("device", "gateway"):
            rates: Rates = getattr(self, kind)
            for name in rates.__struct_fields__:
                least, most = (1, 3_600) if name == "burst_s" else (0.001, 1_000_000_000)
                if not least <= getattr(rates, name) <= most:
                    found.append(FieldError(f"/{kind}/{name}", f"is not between {least} and {most}"))
        return found
