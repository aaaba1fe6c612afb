"""What Prometheus reads."""

from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from seg_node.web.api.models import MAX_BATCH, Answer, Model, Models

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Times at which counters were made, one for each counter, are of no use to anybody here.
disable_created_metrics()

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one server.

    Args:
        models: whose workers are watched.
    """

    def __init__(self, models: Models):
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "seg_node_requests", "Answered requests.", ("method", "route", "status"), registry=self._registry
        )
        self.rejected = Counter(
            "seg_node_rejected", "Requests that were refused, by reason.", ("reason",), registry=self._registry
        )
        self.seconds = Histogram(
            "seg_node_request_seconds",
            "From a request's headers to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.stages = Histogram(
            "seg_node_stage_seconds",
            "Of masked images, by stage.",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "seg_node_batch_images",
            "Images that went through an engine together, seen from each of them.",
            ("model",),
            buckets=range(1, MAX_BATCH + 1),
            registry=self._registry,
        )
        self.in_flight = Gauge("seg_node_in_flight", "Requests that are being answered.", registry=self._registry)
        busy = Gauge(
            "seg_node_worker_busy_seconds",
            "Since a model's worker has been in its current step; 0 while it waits.",
            ("model",),
            registry=self._registry,
        )
        waiting = Gauge(
            "seg_node_queue_length",
            "Images and frames of videos that wait for a model's worker.",
            ("model",),
            registry=self._registry,
        )
        for model in models:
            # Read when they are asked for.
            busy.labels(model.bundle.name).set_function(partial(_busy_seconds, model))
            waiting.labels(model.bundle.name).set_function(partial(_waiting, model))

    def masked(self, answer: Answer) -> None:
        """Count the stages of one image, and how many it was masked with."""
        self.batches.labels(answer.model).observe(answer.batch)
        for stage, duration in answer.milliseconds.items():
            self.stages.labels(answer.model, stage).observe(duration / 1000)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


def _busy_seconds(model: Model) -> float:
    return max(model.busy_seconds, model.loading_seconds)


def _waiting(model: Model) -> int:
    return model.waiting
