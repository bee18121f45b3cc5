"""What the server did, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from guerdon.serving.errors import ServingError

if TYPE_CHECKING:
    from guerdon.serving.models import Outcome
    from guerdon.serving.queue import RewardQueue

_ReadQueue = Callable[["RewardQueue"], dict[str, tuple[float, str]]]
_Family = CounterMetricFamily | GaugeMetricFamily
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
NATS: Final = (-10.0, -5.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
P_VALUES: Final = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.9)


class Metrics:
    """Counters and histograms of one server, in a registry of their own."""

    def __init__(self, queues: Mapping[str, RewardQueue]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_QueueMetrics(queues))
        self._seconds = Histogram(
            "guerdon_request_seconds", "Time of a request.", ["model", "path"], registry=self.registry, buckets=SECONDS
        )
        self._requests = Counter(
            "guerdon_requests", "Requests by status.", ["model", "path", "status"], registry=self.registry
        )
        self._scores = Histogram(
            "guerdon_score_nats", "Rewards that were given.", ["model"], registry=self.registry, buckets=NATS
        )
        self._shift = Histogram(
            "guerdon_shift_p", "p-values of being like the data.", ["model"], registry=self.registry, buckets=P_VALUES
        )
        self._failed = Counter(
            "guerdon_items_without_reward", "Texts without a reward.", ["model"], registry=self.registry
        )

    @contextmanager
    def timing(self, model: str, path: str) -> Iterator[None]:
        """Time what is inside, and count how it ends."""
        start, status = time.perf_counter(), 500
        try:
            yield
            status = 200
        except ServingError as error:
            status = error.status
            raise
        except ValueError:  # a GuerdonError: what was sent cannot be read
            status = 400
            raise
        finally:
            self._seconds.labels(model, path).observe(time.perf_counter() - start)
            self._requests.labels(model, path, str(status)).inc()

    def observe(self, model: str, outcomes: Sequence[Outcome]) -> None:
        """Add the outcomes of a request."""
        for outcome in outcomes:
            if outcome.score is None:
                self._failed.labels(model).inc()
                continue
            self._scores.labels(model).observe(outcome.score)
            if outcome.shift_p is not None:
                self._shift.labels(model).observe(outcome.shift_p)

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)


class _QueueMetrics(Collector):
    """Reads the queues when it is asked."""

    def __init__(self, queues: Mapping[str, RewardQueue]) -> None:
        self.queues = queues

    def collect(self) -> Iterator[Metric]:
        """Counts of each queue and its prefix cache."""
        yield from self._families("guerdon_queue", _now, GaugeMetricFamily)
        yield from self._families("guerdon", _since_start, CounterMetricFamily)
        yield from self._families("guerdon_prefix_cache", _prefix_counts, CounterMetricFamily)

    def _families(self, prefix: str, read: _ReadQueue, family: type[_Family]) -> Iterator[Metric]:
        metrics: dict[str, _Family] = {}
        for name, queue in self.queues.items():
            for key, (value, meaning) in read(queue).items():
                if key not in metrics:
                    metrics[key] = family(f"{prefix}_{key}", meaning, labels=["model"])
                metrics[key].add_metric([name], value)
        yield from metrics.values()


def _now(queue: RewardQueue) -> dict[str, tuple[float, str]]:
    counts = getattr(queue.model, "prefix_counts", None) or {}
    return {
        "prefix_cache_bytes": (counts.get("bytes", 0), "Memory of keys and values that are kept."),
        "items": (queue.num_waiting, "Texts that wait."),
        "tokens": (queue.num_waiting_tokens, "Tokens that wait."),
        "work_seconds": (queue.seconds_of_work, "How long what waits will take."),
    }


def _since_start(queue: RewardQueue) -> dict[str, tuple[float, str]]:
    counts = queue.counts
    return {
        "passes": (counts.passes, "Passes of the model."),
        "scored_items": (counts.items, "Texts scored."),
        "scored_tokens": (counts.tokens, "Their tokens, shared ones counted each time."),
        "compute_seconds": (counts.seconds, "Time in the model."),
        "refused_requests": (counts.refused, "Requests refused because the queue was full."),
        "expired_items": (counts.expired, "Texts whose deadline passed."),
        "canceled_items": (counts.canceled, "Texts whose client went away."),
        "failed_items": (counts.failed, "Texts that the model failed on."),
    }


def _prefix_counts(queue: RewardQueue) -> dict[str, tuple[float, str]]:
    counts = getattr(queue.model, "prefix_counts", None)
    if counts is None:
        return {}
    return {
        "texts": (counts["texts"], "Texts that were looked up."),
        "hits": (counts["hits"], "Texts of which a beginning was known."),
        "tokens": (counts["tokens"], "Tokens of these texts."),
        "reused_tokens": (counts["reused_tokens"], "Tokens that were not computed again."),
    }
