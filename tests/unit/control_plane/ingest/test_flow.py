"""From received to acknowledged, against a broker that loses connections and delivers again."""

import random
from collections import deque

import pytest

from control_plane.ingest.flow import Flow
from control_plane.ingest.packets import Message
from control_plane.ingest.raw_record import recorded_identity, stamp
from shared import batch, limits
from shared.batch import decode_ack
from shared.ids import new_epoch

NOW = stamp(1_767_225_600_000)
EPOCH = new_epoch()


def flow(**changes):
    made = Flow(4, **{"remember": 1_000, "unacknowledged_limit": 100} | changes)
    made.opened(1)
    return made


def reading(packet_id, device="d1", payload=b"{}"):
    return Message(packet_id, f"devices/{device}/telemetry".encode(), payload)


def a_batch(packet_id, number=1, gateway="g1", **changes):
    header = batch.Header(
        **{"epoch": EPOCH, "number": number, "floor": 1, "lane": batch.Lane.LIVE, "records": 1} | changes
    )
    pairs = tuple((name.encode(), value.encode()) for name, value in batch.encode_header(header))
    return Message(packet_id, f"gateways/{gateway}/batches".encode(), b"zip%d" % number, b"zip", pairs)


def take(flow):
    """All that waits, partition by partition."""
    taken = [arrival for queue in flow.queues for arrival in queue]
    for queue in flow.queues:
        queue.clear()
    return taken


def hub_acks(flow):
    return {gateway: decode_ack(payload).acks for gateway, payload in flow.hub_acks.take(100)}


def test_nothing_is_acknowledged_before_kafka_has_it():
    made = flow()
    tally = made.received(1, [reading(1), a_batch(2)], NOW)
    assert (tally.new, tally.repeats, tally.foreign, tally.dropped) == (2, 0, 0, 0)
    taken = take(made)
    assert tally.partitions == {arrival.origin.partition for arrival in taken}
    assert made.window.due() == []
    assert hub_acks(made) == {}
    made.confirmed(taken)
    assert made.window.due() == [1, 2]
    assert hub_acks(made) == {"g1": {EPOCH: [1]}}
    assert len(made) == 0


def test_a_message_that_waits_through_many_connections_keeps_one_ticket():
    """Kafka is away and the link comes and goes: each delivery's ticket is void with its connection."""
    made = flow()
    for generation in range(1, 50):
        if generation > 1:
            made.opened(generation)
        made.received(generation, [reading(generation)], NOW)
    (arrival,) = take(made)
    assert len(arrival.tickets) == 1
    made.confirmed([arrival])
    assert made.window.due() == [49]


def test_a_repeat_of_what_kafka_has_is_done_at_once_and_told_again():
    made = flow()
    made.received(1, [reading(1), a_batch(2)], NOW)
    made.confirmed(take(made))
    made.window.due()
    hub_acks(made)
    made.opened(2)
    tally = made.received(2, [reading(1), a_batch(2)], NOW)
    assert (tally.new, tally.repeats, tally.partitions) == (0, 2, set())
    assert take(made) == []
    assert made.window.due() == [1, 2]
    assert hub_acks(made) == {"g1": {EPOCH: [1]}}


def test_a_repeat_of_what_still_waits_is_done_only_with_it():
    made = flow()
    made.received(1, [reading(1), a_batch(2)], NOW)
    taken = take(made)
    made.opened(2)
    tally = made.received(2, [reading(8), a_batch(9), reading(10)], NOW)
    assert (tally.new, tally.repeats) == (0, 3)
    assert made.window.due() == []
    assert hub_acks(made) == {}
    made.confirmed(taken)
    assert take(made) == []
    assert made.window.due() == [8, 9, 10]
    assert hub_acks(made) == {"g1": {EPOCH: [1]}}


def test_what_an_agent_sends_again_is_written_again():
    made = flow()
    made.received(1, [a_batch(1), a_batch(2, resent=True)], NOW)
    taken = take(made)
    assert [arrival.ce_id for arrival in taken] == [f"g1:{EPOCH}:1".encode()] * 2
    made.confirmed(taken)
    assert made.window.due() == [1, 2]


def test_what_raw_had_at_the_start_is_known():
    before = flow()
    before.received(1, [reading(1), a_batch(2)], NOW)
    seed = [recorded_identity(arrival.origin.key, arrival.value, arrival.headers(None)) for arrival in take(before)]
    after = flow(seed=seed)
    assert after.received(1, [reading(1), a_batch(2), reading(3, payload=b"[]")], NOW).new == 1
    assert after.window.due() == [1, 2]
    assert hub_acks(after) == {"g1": {EPOCH: [1]}}


def test_what_is_no_topic_of_ours_is_acknowledged_and_counted():
    made = flow()
    tally = made.received(1, [Message(1, b"devices/_x/telemetry", b""), reading(2), Message(0, b"x", b"")], NOW)
    assert (tally.new, tally.foreign) == (1, 2)
    assert made.window.due() == [1]


def test_messages_of_another_connection_are_not_taken():
    made = flow()
    made.opened(2)
    assert made.received(1, [reading(1)], NOW).new == 0
    assert take(made) == []


def test_closed_takes_nothing_and_acknowledges_nothing_of_it():
    made = flow()
    made.received(1, [reading(1)], NOW)
    made.close()
    made.received(1, [reading(2, payload=b"[]")], NOW)
    made.confirmed(take(made))
    assert made.window.due() == [1]


def test_qos_0_is_kept_only_while_there_is_room():
    made = flow(unacknowledged_limit=2)
    tally = made.received(1, [reading(0, payload=b"%d" % n) for n in range(5)], NOW)
    assert (tally.new, tally.dropped) == (2, 3)
    assert made.received(1, [reading(1, payload=b"x")], NOW).new == 1  # QoS 1 is never refused
    made.confirmed(take(made))
    assert made.window.due() == [1]


def test_a_batch_without_a_number_is_acknowledged_to_the_broker_alone():
    made = flow()
    message = Message(1, b"gateways/g1/batches", b"zip", None, ((b"epoch", b"?"),))
    made.received(1, [message, message._replace(packet_id=2)], NOW)
    made.confirmed(take(made))
    made.received(1, [message._replace(packet_id=3)], NOW)
    assert made.window.due() == [1, 2, 3]
    assert hub_acks(made) == {}


@pytest.mark.parametrize("message", [reading(1, payload=b"x" * (limits.PAYLOAD_BYTES + 1)), a_batch(1)])
def test_the_cut_form(message):
    made = flow()
    made.received(1, [message], NOW)
    (arrival,) = take(made)
    assert arrival.is_cut == (len(message.payload) > limits.PAYLOAD_BYTES)
    arrival.cut()
    once = arrival.value, arrival.headers(None)
    arrival.cut()  # a second refusal changes nothing
    assert (arrival.value, arrival.headers(None)) == once
    assert dict(arrival.headers(None))["cut_length"] == b"%d" % len(message.payload)
    assert arrival.value == message.payload[: limits.KEPT_OF_OVERSIZED_BYTES]


def test_the_largest_whole_message_is_not_cut():
    made = flow()
    made.received(1, [reading(1, payload=b"x" * limits.PAYLOAD_BYTES)], NOW)
    assert not take(made)[0].is_cut


def test_topics_are_remembered_up_to_a_limit():
    made = flow(origins_limit=2)
    for name in ("a", "b", "c", "a"):
        made.received(1, [reading(1, device=name, payload=name.encode())], NOW)
    assert len(made._origins) == 2


class Broker:
    """Mosquitto as far as ingest can tell: QoS 1, in order, again after each connection, restored now and then."""

    def __init__(self, choose):
        self.choose = choose
        self.queue = deque()  # not delivered on this connection
        self.flying = []  # (packet id, message), delivered, oldest first
        self.saved = []
        self.next_id = 1

    def publish(self, message):
        self.queue.append(message)

    def save(self):
        self.saved = [message for _, message in self.flying] + list(self.queue)

    def deliver(self, count):
        delivered = []
        for _ in range(min(count, len(self.queue), 20 - len(self.flying))):
            message = self.queue.popleft()._replace(packet_id=self.next_id)
            self.next_id = self.next_id % 25 + 1
            while any(self.next_id == flying for flying, _ in self.flying):
                self.next_id = self.next_id % 25 + 1
            self.flying.append((message.packet_id, message))
            delivered.append(message)
        return delivered

    def acknowledged(self, packet_ids):
        for packet_id in packet_ids:
            assert self.flying[0][0] == packet_id, "acknowledged out of the order of receipt"
            self.flying.pop(0)

    def reconnect(self):
        self.queue.extendleft(reversed([message for _, message in self.flying]))
        self.flying.clear()

    def crash(self):
        """What was published since the last save is lost; what was acknowledged since then comes again."""
        lost = [m for m in [m for _, m in self.flying] + list(self.queue) if m not in self.saved]
        self.flying.clear()
        self.queue = deque(self.saved)
        return lost


@pytest.mark.parametrize("seed", range(300))
def test_nothing_lost_nothing_twice_in_order(seed):
    """Ingest and broker are killed, connections end, Kafka answers late or for a part of what it was given."""
    choose = random.Random(seed)
    broker = Broker(choose)
    topic = [[] for _ in range(4)]  # partitions of raw
    generation, made = 1, flow()
    sent, lost = [], set()
    in_flight = {}  # partition: arrivals given to Kafka
    for step in range(400):
        action = choose.choice("pppppdddddkkkkwwwwarsSbc")
        if action == "p":
            n = len(sent)
            message = reading(0, f"d{n % 5}", b"%d" % n) if choose.random() < 0.6 else a_batch(0, n + 1, f"g{n % 3}")
            sent.append(message)
            broker.publish(message)
        elif action == "d":
            made.received(generation, broker.deliver(choose.randint(1, 6)), NOW)
        elif action == "k":  # a worker takes what waits
            partition = choose.randrange(4)
            if partition not in in_flight and made.queues[partition]:
                count = choose.randint(1, len(made.queues[partition]))
                in_flight[partition] = [made.queues[partition].popleft() for _ in range(count)]
        elif action == "w" and in_flight:  # Kafka writes and confirms
            partition = choose.choice(list(in_flight))
            taken = in_flight.pop(partition)
            topic[partition] += [(a.origin.key, a.value, a.headers(None)) for a in taken]
            made.confirmed(taken)
        elif action == "a":
            broker.acknowledged(made.window.due())
        elif action == "r":
            broker.reconnect()
            generation += 1
            made.opened(generation)
        elif action == "b":
            broker.save()
        elif action == "c" and choose.random() < 0.3:
            lost.update(message.payload for message in broker.crash())
            generation += 1
            made.opened(generation)
        elif action == "s" and choose.random() < 0.5:  # ingest killed; what was on its way to Kafka may be written
            for partition, taken in in_flight.items():
                if choose.random() < 0.5:
                    topic[partition] += [(a.origin.key, a.value, a.headers(None)) for a in taken]
            in_flight.clear()
            broker.reconnect()
            seed_identities = [recorded_identity(*record) for partition in topic for record in partition]
            made = flow(seed=seed_identities)
            generation = 1
        assert len(made.window) <= 20, step
    for _ in range(1_000):  # drain
        made.received(generation, broker.deliver(10), NOW)
        for partition in list(in_flight):
            taken = in_flight.pop(partition)
            topic[partition] += [(a.origin.key, a.value, a.headers(None)) for a in taken]
            made.confirmed(taken)
        for partition in range(4):
            taken = list(made.queues[partition])
            made.queues[partition].clear()
            topic[partition] += [(a.origin.key, a.value, a.headers(None)) for a in taken]
            made.confirmed(taken)
        broker.acknowledged(made.window.due())
        if not broker.queue and not broker.flying:
            break
    assert len(made) == 0
    written = [value for partition in topic for _, value, _ in partition]
    assert len(written) == len(set(written)), "twice"
    assert {message.payload for message in sent} - set(written) <= lost, "lost"
    by_sender = {}
    for partition in topic:
        for key, value, _ in partition:
            by_sender.setdefault(key, []).append(int(value.removeprefix(b"zip")))
    for numbers in by_sender.values():
        assert numbers == sorted(numbers), "order"
