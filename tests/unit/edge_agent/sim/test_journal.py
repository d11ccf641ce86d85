from edge_agent.sim.device import Kind, Message
from edge_agent.sim.faults import Episode, Fault
from edge_agent.sim.journal import FaultLine, Journal, SentLine, read_faults, read_sent


def test_what_was_written_down_is_read_back(tmp_path):
    broken = Message(Kind.MALFORMED, 2, b"{")
    with Journal(tmp_path / "run") as journal:
        journal.sent("a", Message(Kind.READING, 1, b"{}"), 1_000, 0, 1_005)
        journal.sent("a", broken, 1_001, None, None)
        journal.faults([Episode("a", Fault.SPIKE, "t", 1.5, 2.0, 5.5)], 10_000)
    assert read_sent(tmp_path / "run") == [
        SentLine("a", 1, Kind.READING, 1_000, 0, 1_005, None),
        SentLine("a", 2, Kind.MALFORMED, 1_001, None, None, broken.sha256),
    ]
    assert read_faults(tmp_path / "run") == [FaultLine("a", Fault.SPIKE, "t", 11_500, 12_000, 5.5)]
