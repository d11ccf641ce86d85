import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.account import PAGE, account, balances, page, table
from edge_agent.ledger import Ledger
from edge_agent.outbox import Outbox
from edge_agent.outbox_schema import migrate
from edge_agent.row import CLASSES, Row, RowClass, count
from shared.batch import ClockQuality
from shared.errors import Permanent, Transient
from shared.health import Health


def counts(telemetry: int, alarm: int = 0) -> tuple[int, ...]:
    return tuple({RowClass.TELEMETRY: telemetry, RowClass.ALARM: alarm}.get(cls, 0) for cls in CLASSES)


LEDGER = Ledger(
    accepted=counts(12_345_678, 3),
    acked=counts(12_345_000, 2),
    waiting=counts(600, 1),
    thinned=counts(50),
    expired=counts(20),
    damaged=counts(8),
    doubt=(2, 9),
)


def test_the_running_agent_is_asked_and_its_answer_read_back_equal(tmp_path: Path) -> None:
    health = Health("127.0.0.1", 0, list, {PAGE: lambda: page(LEDGER)})
    script = (
        "import sys; from pathlib import Path; from edge_agent.running import Claim, Running\n"
        "with Claim(Path(sys.argv[1])) as claim:\n"
        "    claim.announce(Running(1, '127.0.0.1', int(sys.argv[2])))\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, str(tmp_path), str(health.port)]
    agent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"held\n"
        found = account(tmp_path, tmp_path / "outbox.db")
        health.close()
        with pytest.raises(Transient, match="does not answer"):
            account(tmp_path, tmp_path / "outbox.db")
    finally:
        agent.communicate()
    assert found == page(LEDGER)
    assert found["live"]
    assert found["classes"]["telemetry"] == {
        "accepted": 12_345_678, "acked": 12_345_000, "waiting": 600, "thinned": 50, "expired": 20, "damaged": 8,
    }  # fmt: skip
    assert found["classes"]["alarm"]["waiting"] == 1
    assert set(found["classes"]) == {cls.value for cls in CLASSES}
    assert found["lost_with_counters"] == [2, 9]
    assert balances(found)


def test_an_account_that_does_not_balance_is_seen() -> None:
    found = page(Ledger(accepted=counts(5), acked=counts(3), waiting=counts(1)))
    assert not balances(found)
    assert "DOES NOT BALANCE" in table(found)


def test_the_table_shows_sums_and_verdict() -> None:
    lines = table(page(LEDGER)).splitlines()
    assert lines[0].split() == ["class", "accepted", "acked", "waiting", "thinned", "expired", "damaged"]
    assert lines[6].split() == ["sum", "12345681", "12345002", "601", "50", "20", "8"]
    assert lines[7] == "lost with damaged counters: 2 to 9 rows"
    assert lines[8].endswith(": balances")


def test_the_file_at_rest_is_read_without_an_agent(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    migrate(path)
    row = Row(RowClass.TELEMETRY, 1, 1, "boot", ClockQuality.SYNCED, b'["x"]')
    with Outbox(path) as outbox, outbox.transaction():
        outbox.append(0, [row, row], [b"i" * 16], count([row.cls, row.cls]))
    found = account(tmp_path, path)
    assert found["classes"]["telemetry"]["accepted"] == 2
    assert found["classes"]["telemetry"]["waiting"] == 2
    assert "not running" in table(found)


def test_without_an_outbox_the_hint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="AGENT_DATA_DIR"):
        account(tmp_path, tmp_path / "outbox.db")


def test_a_damaged_file_is_permanent_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(Permanent, match="cannot be read"):
        account(tmp_path, path)
    assert path.read_bytes() == b"no database" * 1_000
