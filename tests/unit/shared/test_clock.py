import time

from shared.clock import Clock, SystemClock


def test_the_machines_clocks_agree_with_the_standard_library():
    clock: Clock = SystemClock()
    before = time.time_ns() // 1_000_000
    assert before <= clock.wall_ms() <= time.time_ns() // 1_000_000
    assert clock.boot_ms() >= clock.monotonic_s() * 1000 - 1000
    assert len(clock.boot_id()) == 36
    assert clock.boot_id() == SystemClock().boot_id()


def test_sync_state_is_the_kernels(monkeypatch):
    answers = iter([(0, 0), (0, 0x0040), (5, 0), (-1, 0)])

    class Kernel:
        def adjtimex(self, reference):
            state, status = next(answers)
            reference._obj.status = status
            return state

    monkeypatch.setattr("shared.clock._libc", Kernel)
    assert [SystemClock().synced() for _ in range(4)] == [True, False, False, False]
