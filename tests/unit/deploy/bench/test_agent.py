from types import SimpleNamespace

from deploy.bench.agent import accepted, waiting


def gateway(**classes):
    lines = {name: {"accepted": accepted, "waiting": waiting} for name, (accepted, waiting) in classes.items()}
    return SimpleNamespace(live_ledger=lambda: {"classes": lines})


def test_what_an_agent_tells_of_itself_is_no_reading_but_waits_like_one():
    agent = gateway(telemetry=(500, 3), anomaly=(2, 0), event=(4, 1))
    assert accepted(agent) == 502
    assert waiting(agent) == 4
