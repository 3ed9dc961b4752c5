"""The way out of the outboxes: alerts and dead letters are sent, then forgotten; a failure is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from anomaly.errors import PeerError
from anomaly.service.failpoints import failpoint
from anomaly.service.metrics import Metrics
from anomaly.service.partition import PartitionScorer
from anomaly.service.store import LostPartition
from anomaly.stream.ports import Record, Sink

FIRST_RETRY_S = 0.25
LONGEST_RETRY_S = 10.0
Lost = Callable[[PartitionScorer, LostPartition], None]


def _raise(_scorer: PartitionScorer, error: LostPartition) -> None:
    raise error


class Delivery:
    """Sends to `sink`; after a failure not again before a back-off that doubles, in monotonic seconds."""

    def __init__(self, sink: Sink, metrics: Metrics) -> None:
        self._sink = sink
        self._metrics = metrics
        self._wait_s = 0.0
        self._again_s = 0.0

    def send(self, scorers: Iterable[PartitionScorer], now_s: float, lost: Lost = _raise) -> bool:
        """Send all that is in the outboxes of `scorers`; False while it cannot be sent.

        `lost` is called for one whose letters were sent when its partition was somebody else's already.
        """
        waiting = [scorer for scorer in scorers if scorer.has_letters]
        if not waiting:
            self._wait_s = 0.0
            return True
        if now_s < self._again_s:
            return False
        try:
            for scorer in waiting:
                self._empty(scorer, lost)
        except PeerError as error:
            self._wait_s = min(LONGEST_RETRY_S, max(FIRST_RETRY_S, 2 * self._wait_s))
            self._again_s = now_s + self._wait_s
            self._metrics.retries.inc()
            structlog.get_logger().warning("alerts wait", retry_in_s=self._wait_s, reason=str(error))
            return False
        self._wait_s = 0.0
        return True

    def _empty(self, scorer: PartitionScorer, lost: Lost) -> None:
        while pending := scorer.store.pending():
            failpoint("outbox.before_send")
            by_topic: dict[str, list[Record]] = {}
            for _, letter in pending:
                by_topic.setdefault(letter.topic, []).append(Record(letter.key, letter.value))
            for topic, records in by_topic.items():
                self._sink.send(topic, records)
            failpoint("outbox.after_send")
            try:
                scorer.store.mark_sent([number for number, _ in pending])
            except LostPartition as error:
                lost(scorer, error)
                return
        scorer.has_letters = False

    def close(self) -> None:
        """Let go of the sink."""
        self._sink.close()
