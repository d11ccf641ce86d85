"""Sizes that more than one program must agree on. PURE: numbers with their units, each derived from one place.

The broker's packet limit is far above what our agent sends, because a broker answers an oversized packet by
closing the connection, and the device sends it again for ever; the hub can refuse and say so.
"""

KIB = 1024
MIB = 1024 * KIB

BATCH_RECORDS = 1_000
BATCH_UNPACKED_BYTES = 4 * MIB
BATCH_PACKED_BYTES = 256 * KIB
"""What one batch of a gateway holds at most: records, and their bytes before and after compression."""

KEPT_OF_OVERSIZED_BYTES = 64 * KIB
"""What is kept of a message that is too large: this much from its beginning, with length and SHA-256."""

BROKER_PACKET_BYTES = 2 * MIB
"""The largest MQTT packet that the brokers take; a larger one ends its sender's connection."""

PAYLOAD_BYTES = BATCH_PACKED_BYTES
"""The largest payload that goes to Kafka whole; above it ingest keeps the first bytes and marks the record."""

KAFKA_MESSAGE_BYTES = BROKER_PACKET_BYTES
"""`max.message.bytes` of every topic. A rejected record carries its payload in base64 (4/3 of 256 KiB at most),
so every record fits with room for headers, and a producer's batch may be up to half of this."""

HEADER_VALUE_BYTES = KIB
HEADERS_BYTES = 8 * KIB
"""User properties copied to Kafka: each value, and all together; what is over is left out and marked."""

WINDOW_NUMBERS = 1_024
"""A batch number is always below its epoch's floor plus this."""

CLOSED_EPOCHS = 32
"""The most closed epochs that one header lists."""

TOMBSTONES = 4_096
TOMBSTONE_DAYS = 90
"""How many closed epochs the normaliser remembers per gateway, and for how long."""

READING_FIELDS = 64
FIELD_NAME_CHARS = 64
STRING_CHARS = 256
READINGS_PER_MESSAGE = 1_000
"""What a device may send: fields of a reading, characters of a field's name and of a string, readings of an array."""
