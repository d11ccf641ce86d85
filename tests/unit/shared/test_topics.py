import pytest

from shared import topics
from shared.ids import DeviceId
from shared.topics import Address, Channel


@pytest.mark.parametrize("channel", list(Channel))
def test_every_channel_is_parsed_back_as_it_was_built(channel):
    owner = DeviceId("dev-1")
    assert topics.parse(topics.build(channel, owner)) == Address(channel, owner)


def test_the_names_are_those_of_the_contract():
    owner = DeviceId("x")
    assert [topics.build(channel, owner) for channel in Channel] == [
        "devices/x/telemetry",
        "devices/x/status",
        "devices/x/commands",
        "devices/x/notices",
        "gateways/x/batches",
        "gateways/x/acks",
    ]
    assert topics.subscription(Channel.BATCHES) == "gateways/+/batches"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "devices/x",
        "devices/x/telemetry/",
        "gateways/x/telemetry",
        "devices/x/batches",
        "devices/_x/telemetry",
        "devices//telemetry",
        "devices/x/Telemetry",
        "/devices/x/telemetry",
    ],
)
def test_any_other_topic_is_none_of_ours(topic):
    assert topics.parse(topic) is None


def test_only_the_registry_topic_is_compacted():
    assert {topics.Kafka.REGISTRY} == topics.COMPACTED
