"""The process that sends a router's spans: `python -m greentic.providers.otlp.sender`, spoken to through its standard
input and output as `greentic.providers.otlp.exporter` says. It ends when its input does.

Names are those of the OpenTelemetry semantic conventions for HTTP servers (1.23 and later); what they do not have
begins with `greentic.`.
"""

from __future__ import annotations

import logging
import marshal
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, BinaryIO, Final

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from greentic.providers.otlp.exporter import LENGTH
from greentic.router.spans import Span

_METHODS: Final = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


def frames(stream: BinaryIO) -> Iterator[Any]:
    """The values that come, until the stream ends."""
    while len(head := stream.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        data = stream.read(length)
        if len(data) < length:
            return
        yield marshal.loads(data)  # noqa: S302 - from the parent, through a pipe that nobody else has


def main() -> int:
    """Export until the input ends."""
    # Both reach the router's whole process group; the last spans are still to come then, and after them the end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    coming = frames(sys.stdin.buffer)
    settings = next(coming, None)
    if settings is None:
        return 0
    exporter = OTLPSpanExporter(
        endpoint=settings["endpoint"],
        headers=settings["headers"],
        timeout=settings["seconds"],
        compression=Compression.Gzip,
    )
    origin = resource(settings["env_id"], settings["process_id"])
    scope = InstrumentationScope("greentic.router", version("greentic"))
    for batch in coming:
        spans = [readable(Span(*values), origin, scope) for values in batch]
        lost = 0 if exporter.export(spans) is SpanExportResult.SUCCESS else len(spans)
        sys.stdout.buffer.write(LENGTH.pack(lost))
        sys.stdout.buffer.flush()
    return 0


def resource(env_id: str, process_id: int) -> Resource:
    """Who speaks."""
    return Resource(
        {
            "service.name": "greentic-router",
            "service.version": version("greentic"),
            "service.instance.id": f"{env_id}-{process_id}",
            "deployment.environment.name": env_id,
            "process.pid": process_id,
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": version("opentelemetry-sdk"),
        }
    )


def readable(span: Span, origin: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """`span` as the SDK has it."""
    trace_id = int(span.trace_id, 16)
    parent = None
    if span.parent_id:
        parent = SpanContext(trace_id, int(span.parent_id, 16), is_remote=True, trace_flags=_SAMPLED)
    method = asked if (asked := span.method.decode("latin-1")) in _METHODS else "_OTHER"
    ended = int(span.ended * 1e9)
    failed = span.error not in ("client-closed", "client-stalled") and (span.status >= 500 or not span.status)
    return ReadableSpan(
        # A span's name has few values (semantic conventions): the path is an attribute.
        name=method if method != "_OTHER" else "HTTP",
        context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=_SAMPLED),
        parent=parent,
        resource=origin,
        attributes=dict(_attributes(span, method)),
        kind=SpanKind.SERVER,
        status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
        start_time=ended - int(span.seconds * 1e9),
        end_time=ended,
        instrumentation_scope=scope,
    )


def _attributes(span: Span, method: str) -> Iterator[tuple[str, Any]]:
    yield "http.request.method", method
    if method == "_OTHER" and span.method:
        yield "http.request.method_original", span.method.decode("latin-1")
    yield "url.scheme", "https" if span.secure else "http"
    told: Sequence[tuple[str, str]] = (
        ("url.path", span.path.decode("latin-1")),
        ("server.address", span.host.decode("latin-1")),
        ("greentic.request_id", span.request_id.decode("latin-1")),
        ("greentic.deployment", span.deployment_id),
        ("greentic.bundle", span.bundle_id),
        ("greentic.customer", span.customer_id),
        ("greentic.revision", span.revision_id),
        ("greentic.revision.name", span.revision),
        ("greentic.reason", span.reason),
    )
    yield from ((name, value) for name, value in told if value)
    if span.status:
        yield "http.response.status_code", span.status
    if span.generation >= 0:
        yield "greentic.generation", span.generation
    if span.error:
        yield "error.type", span.error
    elif span.status >= 500:
        yield "error.type", str(span.status)


if __name__ == "__main__":
    sys.exit(main())
