"""Spans: what a tracing system is told of each request, handed to an exporter that nobody waits for.

A request is sampled as its caller's context says (W3C Trace Context, `traceparent`); one without a context begins a
trace, a share of which (`sample_ratio`) is sampled by the trace's id, so that all who use one ratio agree. A sampled
request has a span of its own, and the worker is told that span as its parent. Attributes have the names of the
OpenTelemetry semantic conventions, or begin with `greentic.`.

When a request is over, its span is one plain tuple in a list. Four times a second the list goes to a thread, which
gives it to the exporter; while that is busy, spans are collected, and beyond PENDING dropped and counted.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, Protocol, cast

from greentic.spec.errors import SpecViolation

ENTRY_POINTS: Final = "greentic.span_exporters"
"""The group of entry points that offer an exporter: the name is the env-pack's path, the object a callable that takes
the settings and what is the same of all spans (`Origin`), and returns the exporter. It is read in the router's process,
which knows nothing of env-packs.
"""
PENDING: Final = 16_384
"""Spans not yet handed on, a few hundred bytes each."""
CLOSE_SECONDS: Final = 1.0
"""How long the last spans may take when the router ends."""

_log = logging.getLogger(__name__)


class Span(NamedTuple):
    """One request. Ids are in lower-case hexadecimal; `parent_id` is empty for the first span of a trace. `ended` is
    unix time, `seconds` how long it took. Text is empty and numbers are 0 (a generation: -1) as far as the request did
    not come. `error` is the kind of the router's refusal, or `client-closed`.
    """

    trace_id: str
    span_id: str
    parent_id: str
    ended: float
    seconds: float
    method: bytes
    secure: bool
    host: bytes
    path: bytes
    status: int
    request_id: bytes
    deployment_id: str
    bundle_id: str
    customer_id: str
    revision_id: str
    revision: str
    generation: int
    reason: str
    error: str


Fields = tuple[object, ...]
"""The fields of `Span`: a plain tuple costs a third of a named one, and can be passed on as it is."""


class Context(NamedTuple):
    """A sampled request's place in its trace, in lower-case hexadecimal."""

    trace_id: str
    span_id: str
    parent_id: str

    @property
    def traceparent(self) -> bytes:
        """What the worker is told: its parent is this span."""
        return f"00-{self.trace_id}-{self.span_id}-01".encode()


class Origin(NamedTuple):
    """Where all spans of a router come from."""

    env_id: str
    process_id: int


class Exporter(Protocol):
    """Sends spans. It is called in one thread, which may be held up as long as it takes: only spans wait."""

    def export(self, spans: Sequence[Fields]) -> int:
        """Send `spans`, each the fields of a `Span`; how many of them were lost. Whatever is raised loses all."""

    def close(self) -> None:
        """Let go of everything, at once."""


@dataclass(frozen=True, slots=True)
class SpanSettings:
    """Which exporter: the path of its env-pack, what it is to be opened with (there may be a secret in it), and the
    share of traces that begin here which are sampled."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ratio: float = 1.0


@dataclass(slots=True)
class SpanCounts:
    """What became of the spans of this process, whatever settings they went by."""

    exported: int = 0
    dropped: int = 0


class Spans:
    """Takes spans and has them sent."""

    def __init__(self, settings: SpanSettings, origin: Origin, counts: SpanCounts | None = None) -> None:
        """Raises SpecViolation (`spans`) when nothing installed offers the exporter, or it refuses the settings."""
        self.settings = settings
        self.counts = counts if counts is not None else SpanCounts()
        self._exporter = _opened(settings, origin)
        self._below = round(settings.ratio * (1 << 64))
        self._number = random.Random(random.SystemRandom().getrandbits(128)).getrandbits  # noqa: S311 - ids, no secrets
        self._pending: list[Fields] = []
        self._sending = 0
        self._batches: SimpleQueue[list[Fields] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._send, name="spans", daemon=True)
        self._thread.start()

    def begin(self, traceparent: bytes) -> Context | None:
        """The place of a new request's span; None when it is not sampled. `traceparent` is well formed, or empty."""
        if traceparent:
            if not int(traceparent[53:55], 16) & 1:
                return None
            return Context(traceparent[3:35].decode(), f"{self._number(64) or 1:016x}", traceparent[36:52].decode())
        number = self._number(192)
        # As OpenTelemetry's TraceIdRatioBased decides: by the lower 64 bits of the trace's id.
        if number >> 64 & 0xFFFF_FFFF_FFFF_FFFF >= self._below:
            return None
        text = f"{number:048x}"
        return Context(text[:32], text[32:], "")

    def end(self, context: Context, ended: tuple[Any, ...], *, secure: bool) -> None:
        """Take the span of a request that is over; `ended` holds the fields of `greentic.router.ended.Ended`."""
        pending = self._pending
        if len(pending) >= PENDING:
            self.counts.dropped += 1
            return
        request_id, ended_at, _, seconds, _, status, error, _, method, host, path, row, _, _, decision, _, _, _ = ended
        served: Fields = ("", "", "", "", "", -1, "")
        if decision is not None:
            revision = decision.revision
            name = row.revisions[revision.index].name
            served = (
                *(row.deployment_id, row.bundle_id, row.customer_id, revision.revision_id, name),
                *(row.generation, decision.reason),
            )
        elif row is not None:
            served = (row.deployment_id, row.bundle_id, row.customer_id, "", "", row.generation, "")
        asked = (ended_at, seconds, method, secure, host, path, status, request_id)
        pending.append((*context, *asked, *served, error or ""))

    def flush(self) -> None:
        """Hand on what was collected, unless the exporter is still busy with the last of it. Called often."""
        if self._pending and not self._sending:
            batch, self._pending = self._pending, []
            self._sending = len(batch)
            self._batches.put(batch)

    def close(self) -> None:
        """Send what is left, at most for CLOSE_SECONDS; what is not sent then is lost."""
        batch, self._pending = self._pending, []
        if batch:
            self._batches.put(batch)
        self._batches.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._exporter.close()

    def document(self) -> dict[str, int]:
        """The counters as JSON values."""
        return {"exported": self.counts.exported, "dropped": self.counts.dropped}

    # In the thread

    def _send(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                lost = self._exporter.export(batch)
            except Exception as error:
                # Its words may hold a secret of the settings.
                _log.warning("spans: %s failed (%s)", self.settings.kind, type(error).__name__)
                lost = len(batch)
            self.counts.exported += len(batch) - lost
            self.counts.dropped += lost
            self._sending = 0
        self._exporter.close()


def continued(onward: bytes, former: bytes, context: Context) -> bytes:
    """The part `onward` of a request's head, in which the worker's parent is `context` instead of `former`."""
    # A value holds no line end, and no other field has this name: there is exactly one such place.
    return onward.replace(b"\r\ntraceparent: " + former, b"\r\ntraceparent: " + context.traceparent, 1)


def _opened(settings: SpanSettings, origin: Origin) -> Exporter:
    for point in entry_points(group=ENTRY_POINTS, name=settings.kind):
        try:
            return cast("Exporter", point.load()(settings.settings, origin))
        except Exception as error:
            # Whatever it is, the settings may be in its words: the kind of error has to do.
            raise SpecViolation(
                "spans", f"the exporter of {settings.kind} cannot be opened here ({type(error).__name__})"
            ) from None
    raise SpecViolation("spans", f"no installed distribution offers an exporter of spans of the kind {settings.kind}")
