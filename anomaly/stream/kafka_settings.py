"""What both Kafka clients are told alike: how long to wait, which brokers to ask, how topics are laid out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from anomaly.errors import UsageError

HEARTBEAT_MS = 500
"""Members learn of a rebalance by their heartbeat, and a cooperative one takes two rounds."""
SEND_TOGETHER = 10_000
LINGER_MS = 20
BATCH_BYTES = 256 << 10
MAX_REQUEST_BYTES = 4 << 20
RETENTION_CONFIGS = ("cleanup.policy", "retention.ms")
_DEAD_LETTER_BYTES = 2 << 20
"""A dead letter holds a message of at most 1 MiB in base64, so it needs more room than the broker gives others."""


class Limits(NamedTuple):
    """Seconds to wait for a first answer, repeated calls, acknowledgements, and a partition that stands still."""

    bootstrap_s: float = 10.0
    retry_s: float = 15.0
    send_s: float = 120.0
    stall_s: float = 30.0

    @property
    def send_ms(self) -> int:
        """After so long, a record that no broker acknowledged is given up."""
        return int(self.send_s * 1_000)

    @property
    def request_ms(self) -> int:
        """After so long, a broker is asked again to take a record: at least twice in `send_ms`."""
        return min(30_000, int(self.send_s * 500))


def addresses(bootstrap_servers: str) -> list[str]:
    """The brokers in a list with commas. Raises UsageError for an address that is none."""
    servers = [server.strip() for server in bootstrap_servers.split(",")]
    for server in servers:
        if not re.fullmatch(r".+:\d{1,5}", server):
            raise UsageError(f"`{server}` is no HOST:PORT")
    return servers


def kept_ms(configs: Mapping[str, str | None]) -> int:
    """How long messages are kept by what a broker says of a topic's RETENTION_CONFIGS; -1: for ever."""
    if configs["cleanup.policy"] == "compact":
        return -1
    return int(configs["retention.ms"] or -1)


def topic_configs(name: str, retention_ms: int, compacted: bool) -> dict[str, str]:
    """The broker's settings of a new topic."""
    configs = {"cleanup.policy": "compact"} if compacted else {"retention.ms": str(retention_ms)}
    if name.endswith("dead-letters"):
        configs["max.message.bytes"] = str(_DEAD_LETTER_BYTES)
    return configs
