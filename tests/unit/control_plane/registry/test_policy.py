import json

from control_plane.registry.limits_policy import LimitsPolicy
from control_plane.registry.problem import FieldError
from control_plane.registry.quarantine.rules import QuarantinePolicy, Rule, Threshold


def test_what_is_left_out_gets_its_default():
    found = QuarantinePolicy.read(b'{"rules": {"flood": {"count": 7, "window_s": 9}}}')
    assert isinstance(found, QuarantinePolicy)
    assert found.threshold(Rule.FLOOD) == Threshold(7, 9)
    assert found.rules.malformed_rate == QuarantinePolicy().rules.malformed_rate


def test_a_document_is_whole_and_reads_as_itself():
    policy = LimitsPolicy()
    assert set(policy.document()) == {"device", "gateway"}
    assert LimitsPolicy.read(json.dumps(policy.document()).encode()) == policy


def test_what_is_wrong_is_said_with_its_place():
    assert LimitsPolicy.read(b"[]") == [FieldError("", "Expected `object`, got `array`")]
    found = QuarantinePolicy.read(b'{"rules": {"flood": {"count": "many", "window_s": 1}}}')
    assert found == [FieldError("/rules/flood/count", "Expected `int`, got `str`")]
    assert QuarantinePolicy.read(b'{"rools": {}}') == [FieldError("", "Object contains unknown field `rools`")]
    assert [error.pointer for error in _errors(LimitsPolicy, b"\xff")] == [""]
    assert [error.pointer for error in _errors(LimitsPolicy, b"[" * 100_000)] == [""]


def _errors(kind, document):
    found = kind.read(document)
    assert isinstance(found, list)
    return found
