"""What a scorer counts, as Prometheus metrics and a health check on loopback. No metric is labelled by vehicle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from anomaly.engine.outcome import Outcome, Status
from anomaly.errors import ConfigError
from anomaly.service.profile import Stages

DEFAULT_PORT = 9464
STALLED_S = 60.0
"""A loop that did not turn for so long is not healthy."""
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
UNKNOWN_NAMES = 100
"""At most so many unknown names get a label of their own; the rest count as `other`."""


class Metrics:
    """The metrics of one scorer, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.readings = self._counter("readings", "Readings that were decoded")
        self.decisions = self._counter("decisions", "Readings that got a decision")
        self.alarms = self._counter("alarms", "Decisions that alarm")
        self.alerts = self._counter("alerts", "Alerts written", "state")
        self.dead_letters = self._counter("dead_letters", "Messages that could not be used", "reason")
        self.masked = self._counter("masked_values", "Values that were masked", "reason")
        self.unseen_regimes = self._counter(
            "unseen_regime_readings", "Readings in a regime that training has not seen, judged by wider thresholds"
        )
        self.refused = self._counter("refused_readings", "Readings that got no decision", "status")
        self.unknown = self._counter("unknown_names", "Names in sampled messages that the fleet file lacks", "name")
        self.late_events = self._counter("late_events", "Events that came after a reading they were for")
        self.late_for_cohorts = self._counter(
            "late_cohort_readings", "Readings that came too late to count for their cohort"
        )
        self.incomplete_periods = self._counter(
            "incomplete_cohort_periods", "Periods of the cohorts that were used without a partition's part"
        )
        self.retries = self._counter("delivery_retries", "Times that alerts or dead letters could not be sent")
        self.lag = Gauge("anomaly_lag_messages", "Messages to read", ["partition"], registry=self.registry)
        self.state_bytes = Gauge("anomaly_state_bytes", "State in the store", ["partition"], registry=self.registry)
        self.batch_s = self._histogram("batch_seconds", "Time from bytes to decisions of one micro-batch")
        self.checkpoint_s = self._histogram("checkpoint_seconds", "Time of one checkpoint")
        self.stages = Stages()
        self.registry.register(self.stages)
        self._names: set[str] = set()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"anomaly_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"anomaly_{name}", text, buckets=_SECONDS, registry=self.registry)

    def count(self, outcome: Outcome) -> None:
        """Count what the engine said about one batch."""
        status: NDArray[np.int64] = np.bincount(outcome.status, minlength=len(Status))
        self.readings.inc(len(outcome.status))
        self.decisions.inc(len(outcome.decisions.row))
        self.alarms.inc(int(outcome.decisions.alarm.sum()))
        for kind in (Status.DUPLICATE, Status.LATE, Status.AHEAD):
            self.refused.labels(kind.name.lower()).inc(int(status[kind]))
        for reason, values in outcome.masked.items():
            if reason == "unseen_regime":
                self.unseen_regimes.inc(values)
            else:
                self.masked.labels(reason).inc(values)

    def forget(self, partition: int) -> None:
        """Show nothing more of a partition that this process no longer has."""
        for gauge in (self.lag, self.state_bytes):
            with suppress(KeyError):
                gauge.remove(str(partition))

    def count_unknown(self, name: str, times: int) -> None:
        """Count a name that the fleet file does not have."""
        if len(self._names) < UNKNOWN_NAMES:
            self._names.add(name)
        self.unknown.labels(name if name in self._names else "other").inc(times)


class Listener:
    """`/metrics` and `/healthz` on 127.0.0.1:`port`, from construction to `close`.

    `/healthz` answers 200 while the loop turns, 503 when it has not for a minute.
    Raises ConfigError if the port is taken.
    """

    def __init__(self, port: int, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned_s = clock()
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(metrics, self.healthy))
        except OSError as error:
            raise ConfigError(
                f"--metrics-port {port} cannot be listened on: {error.strerror}; choose another one, or 0 for none"
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="metrics", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def turn(self) -> None:
        """Say that the loop goes round."""
        self._turned_s = self._clock()

    def healthy(self) -> bool:
        """Whether the loop turned within the last minute."""
        return self._clock() - self._turned_s < STALLED_S

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _handler(metrics: Metrics, healthy: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers two paths, and logs nothing."""

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(metrics.registry))
            elif self.path == "/healthz":
                fine = healthy()
                self._answer(200 if fine else 503, b"ok\n" if fine else b"the loop stands still\n")
            else:
                self._answer(404, b"/metrics and /healthz are here\n")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a line a scrape is of no use."""

    return Handler
