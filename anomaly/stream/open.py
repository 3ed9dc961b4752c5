"""Which log a command talks to."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from anomaly.errors import UsageError
from anomaly.stream.client_properties import read_client_properties
from anomaly.stream.embedded import EmbeddedLog
from anomaly.stream.files import FileLog
from anomaly.stream.kafka_settings import Limits
from anomaly.stream.ports import Log

_LIBRDKAFKA, _KAFKA_PYTHON = "librdkafka", "kafka-python"


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
    return _kafka(_kafka_client(), servers, client, Limits(send_s=send_s))


def _kafka_client() -> str:
    """The client for Kafka: what ANOMALY_KAFKA_CLIENT says, else librdkafka where it is installed."""
    installed = importlib.util.find_spec("confluent_kafka") is not None
    chosen = os.environ.get("ANOMALY_KAFKA_CLIENT") or (_LIBRDKAFKA if installed else _KAFKA_PYTHON)
    if chosen not in (_LIBRDKAFKA, _KAFKA_PYTHON):
        raise UsageError(f"ANOMALY_KAFKA_CLIENT: `{chosen}` is neither {_KAFKA_PYTHON} nor {_LIBRDKAFKA}")
    if chosen == _LIBRDKAFKA and not installed:
        raise UsageError("ANOMALY_KAFKA_CLIENT asks for librdkafka; `pip install 'fleet-anomaly[fast]'` brings it")
    return chosen


def _kafka(chosen: str, servers: str, client: Mapping[str, str], limits: Limits) -> Log:
    """The log by the client that was chosen; each takes a while to load."""
    if chosen == _LIBRDKAFKA:
        from anomaly.stream.rdkafka import RdKafkaLog

        return RdKafkaLog(servers, client, limits)
    from anomaly.stream.kafka import KafkaLog

    return KafkaLog(servers, client, limits)
