"""What the front door counts, for Prometheus. Its workers count in files that they share, where a folder is given."""

from typing import Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

OUTCOMES = ("answered", "refused", "shed", "expired", "cancelled", "failed")
GRPC, HTTP = "grpc", "http"
CLIENT, CANARY = "client", "canary"  # who asks
UNKNOWN = "unknown"  # the label of a model that is not served, so that no client can make new labels
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """
    Args:
        registry: where they are registered; the process's own by default, as the workers of a server need it.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY):
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"marquee_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"marquee_{name}", text, labels, registry=registry, buckets=SECONDS)

        def gauge(name: str, text: str, mode: Literal["livesum", "mostrecent"]) -> Gauge:
            return Gauge(f"marquee_{name}", text, registry=registry, multiprocess_mode=mode)

        self.requests = counter("requests_total", "Requests by how they ended", "model", "protocol", "outcome", "asker")
        self.answered: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self.refusals = counter("refusals_total", "Refused and shed requests", "model", "reason", "asker")
        self.request_seconds = histogram("request_seconds", "From a request to its answer", "model", "asker")
        self.queue_seconds = histogram("queue_seconds", "From a request to the first call for it", "model")
        self.triton_seconds = histogram("triton_seconds", "One call to Triton", "model")
        self.waiting_requests = gauge("waiting_requests", "Requests under way", "livesum")
        self.waiting_rows = gauge("waiting_rows", "Rows under way", "livesum")
        self.triton_restarts = counter("triton_restarts_total", "Starts of Triton after the first")
        self.model_reloads = counter("model_reloads_total", "Models loaded again, as they did not answer", "model")
        self.rehearsals = counter("rehearsals_total", "New releases that were tried", "outcome")
        for outcome in ("passed", "failed"):
            self.rehearsals.labels(outcome)  # so that the first failure is seen as an increase
        self.front_door_restarts = counter("front_door_restarts_total", "Starts of a front door after the first")
        self.served_version = gauge("served_version", "The version that is served", "mostrecent")
        self.triton_up = gauge("triton_up", "Whether Triton runs", "mostrecent")

    def ended(self, model: str, protocol: str, outcome: str, asker: str, seconds: float) -> None:
        """Counts a request that was answered, or given up."""
        if outcome != "answered":
            return self.requests.labels(model, protocol, outcome, asker).inc()
        key = model, protocol, asker
        found = self.answered.get(key)  # kept, as looking labels up costs more than counting
        if found is None:
            of_outcome = self.requests.labels(model, protocol, outcome, asker)
            found = self.answered[key] = of_outcome, self.request_seconds.labels(model, asker)
        found[0].inc()
        return found[1].observe(seconds)

    def refused(self, model: str, protocol: str, reason: str, asker: str) -> None:
        """Counts a request that got a refusal.

        Args:
            reason: one of `REASONS`.
        """
        self.requests.labels(model, protocol, OUTCOME_OF.get(reason, "refused"), asker).inc()
        self.refusals.labels(model, reason, asker).inc()

    def note(self, message: dict[str, object]) -> None:
        """Takes a note of the supervisor: `{"count": NAME, label: value}` or `{"set": NAME, "value": number}`.

        Raises:
            ValueError: it is not such a note.
        """
        labels = {name: str(value) for name, value in message.items() if name not in ("count", "set", "value")}
        name = str(message.get("count", message.get("set")))
        metric = getattr(self, name, None)
        if "count" in message and isinstance(metric, Counter):
            (metric.labels(**labels) if labels else metric).inc()
        elif "set" in message and isinstance(metric, Gauge) and isinstance(message.get("value"), int | float):
            metric.set(float(str(message["value"])))
        else:
            raise ValueError(f"{message!r:.100} is not a note")


OUTCOME_OF = {"busy": "shed", "deadline": "expired", "unavailable": "failed"}
