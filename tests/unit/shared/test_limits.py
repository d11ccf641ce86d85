from shared import limits


def test_what_the_agent_sends_fits_the_broker_with_room():
    assert limits.BATCH_PACKED_BYTES * 8 <= limits.BROKER_PACKET_BYTES


def test_the_largest_rejected_record_fits_kafka():
    base64_of_largest_payload = limits.PAYLOAD_BYTES * 4 // 3
    assert base64_of_largest_payload + limits.HEADERS_BYTES < limits.KAFKA_MESSAGE_BYTES // 2


def test_one_row_always_fits_a_batch():
    assert limits.KEPT_OF_OVERSIZED_BYTES * 4 // 3 < limits.BATCH_PACKED_BYTES
