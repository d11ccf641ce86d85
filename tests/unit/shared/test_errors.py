import pytest

from shared.errors import HubError, Permanent, Transient


@pytest.mark.parametrize("kind", [Transient, Permanent])
def test_an_error_says_what_to_do(kind):
    error = kind("the broker is away", hint="start it with make stack")
    assert str(error) == "the broker is away. start it with make stack"
    assert isinstance(error, HubError)


def test_without_a_hint_the_message_stands_alone():
    assert str(Permanent("no such device")) == "no such device"
