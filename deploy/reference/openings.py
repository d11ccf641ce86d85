"""How the pages begin: what holds for all that they list, and what no single declaration says. PURE."""

COMMANDS = """\
`hub` is the control plane's, `edge-agent` the gateway's, `edge-sim` a fleet to try things on. `--help` says the
same on the spot. What each reads from the environment is in [configuration.md](configuration.md).
"""

CONFIGURATION = """\
Every program reads the environment; `edge-agent` also reads `agent.toml` in `AGENT_DATA_DIR`, by the keys of
the second column. The environment wins. A program that finds mistakes names all of them at once and exits with
status 2. Units stand in the names: `_s` seconds, `_ms` milliseconds, `_mib` mebibytes. `make stack` prints the
variables of a hub on this machine.
"""

EVENTS = """\
A log line is one JSON object on standard error: `at` (RFC 3339, UTC), `level`, `event`, and the event's fields.
What a library says is an event `library` with `logger` and `message`, from `warning` on. A device appears by
its pseudonym or not at all. An event also moves the metrics of the last column, whether its level is written or
not.
"""

LIMITS = """\
Sizes on which several programs must agree (`shared/limits.py`). They are constants: to change one is to change
the protocol. What an operator may set is in [configuration.md](configuration.md).
"""

METRICS = """\
Each process serves its own at `/metrics`, as Prometheus text; the names are those that a scrape shows. Counters
and histograms also show when they began to count (`…_created`), and each process its own `process_…` and
`python_…`. No label names a device. Label values in parentheses are there from the start, others come with the
first of their kind. [observability.md](../observability.md) says what to watch.
"""

REASONS = """\
What the hub refuses goes to `iot.telemetry.rejected.v1` with its bytes, its origin, a sentence in `detail`, and
one of these words in `reason`. Metrics and commands use the same words. `hub deadletters replay` brings records
back once the cause is mended; what was cut cannot come back.
"""

REST = """\
Send `Authorization: Bearer TOKEN`, and bodies as `application/json`. A refusal is a problem document (RFC 9457,
`application/problem+json`). The description for programs is at `/openapi.json`.
"""

TOPICS = """\
`+` stands for the id of a device or gateway. A batch's header travels in MQTT 5 user properties; ingest copies
them to Kafka headers of the same names.
"""

KAFKA = """\
`hub migrate` makes them, with these settings unless [configured otherwise](configuration.md). Read with
`isolation.level=read_committed`: that is part of the contract. A new field is optional; a breaking change gets
a new version beside the old.
"""

INDEX = """\
Begin with [architecture.md](architecture.md): one page, four pictures. To run it on one machine:
[stack.md](stack.md), then [hub.md](hub.md). To watch it: [observability.md](observability.md). Why it is built
so: [adr/](adr/README.md).
"""

SECTIONS = {"": "Guides", "specs": "Specifications", "reference": "Reference, made from the code", "adr": "Decisions"}
"""The folders of docs, in the order of the front page."""
