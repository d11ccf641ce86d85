from deploy.bench import limits


def test_the_allowed_path_is_what_is_measured(monkeypatch):
    monkeypatch.setattr(limits, "MESSAGES", 2_000)
    values = limits.judging(2)["rate_limit_us_per_msg"]
    assert len(values) == 2
    assert all(0 < value < 1_000 for value in values)
