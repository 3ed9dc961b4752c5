"""Which log a command talks to."""

from __future__ import annotations

from pathlib import Path

from anomaly.errors import UsageError
from anomaly.stream.client_properties import read_client_properties
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.files import FileLog
from anomaly.stream.ports import Log


def open_log(
    bootstrap_servers: str | None, path: Path | None, command_config: Path | None = None, send_s: float = 120.0
) -> Log:
    """Kafka at `bootstrap_servers` (or those that `command_config` names), else the log at `path`.

    To Kafka, a `send` gives up after `send_s` seconds; who tries again by itself asks for few.

    `path` is a folder of JSONL files or one of them, or else the file of an embedded log. Raises UsageError unless
    exactly one of the two is named, and what the log itself raises.
    """
    client = read_client_properties(command_config) if command_config else {}
    servers = bootstrap_servers or client.get("bootstrap.servers")
    if path is not None:
        if servers or command_config:
            raise UsageError("--log is a log of its own; leave --bootstrap-server and --command-config out")
        return FileLog(path) if path.is_dir() or path.suffix == ".jsonl" else EmbeddedLog(path)
    if not servers:
        raise UsageError("where are the topics? Give --bootstrap-server HOST:PORT, or --log FILE for an embedded log")
    from anomaly.stream.kafka import KafkaLog  # kafka-python takes a while to load
    from anomaly.stream.kafka_client import Limits

    return KafkaLog(servers, client, Limits(send_s=send_s))
