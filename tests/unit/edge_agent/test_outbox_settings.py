from pathlib import Path

import pytest

from edge_agent.outbox_settings import Settings
from edge_agent.uplink_state import Limits
from shared import limits


def test_a_window_takes_at_most_a_quarter_of_the_budget():
    Settings(Path("x"), budget_bytes=16 * limits.MIB)
    with pytest.raises(AssertionError, match="quarter"):
        Settings(Path("x"), budget_bytes=15 * limits.MIB)
    Settings(Path("x"), budget_bytes=8 * limits.MIB, uplink=Limits(window_bytes=2 * limits.MIB))
