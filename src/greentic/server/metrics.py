"""What the server counts, for Prometheus. No environment, customer or caller is a label: their number has no bound."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Counts:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "greentic_store_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "greentic_store_request_seconds",
            "Time from a request's head to its answer's head",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.replayed = Counter("greentic_store_replays", "Changes answered from the ledger", registry=self.registry)
        self.streams = Gauge("greentic_store_streams", "Streams that are open", registry=self.registry)
        self.reload_failures = Gauge(
            "greentic_store_token_file_failures", "Times the token file was not taken over", registry=self.registry
        )

        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered. `method` and `route` are of a bounded number."""
        found = self._known.get((method, route, status))
        if found is None:
            found = self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)
            self._known[method, route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
