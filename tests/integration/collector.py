"""A collector of OpenTelemetry: receives OTLP over HTTP and decodes it as the protocol's own messages say."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """Listens on `port`; `spans` are flat: name, ids in hexadecimal, attributes and the resource's as dictionaries."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.status = 200
        self.hanging = threading.Event()
        """Set: no request is answered until it is cleared."""
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._receive(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def wait(self, holds: Callable[[Collector], bool], seconds: float = 20) -> None:
        """Until `holds`; AssertionError after `seconds`."""
        end = time.monotonic() + seconds
        while not holds(self):
            assert time.monotonic() < end, f"not in {seconds:g} s; {len(self.spans)} spans came"
            time.sleep(0.01)

    def close(self) -> None:
        self.hanging.clear()
        self._server.shutdown()
        self._server.server_close()

    def _receive(self, request: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        body = request.rfile.read(int(request.headers["content-length"]))
        while self.hanging.is_set():
            time.sleep(0.02)
        if request.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        if self.status == 200:
            assert request.headers["content-type"] == "application/x-protobuf"
            self.paths.append(request.path)
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self._take(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        request.send_response(self.status)
        request.send_header("content-type", "application/x-protobuf")
        request.send_header("content-length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _take(self, message: ExportTraceServiceRequest) -> None:
        for group in message.resource_spans:
            resource = {one.key: _value(one.value) for one in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += [
                    {
                        "name": span.name,
                        "kind": span.kind,
                        "trace_id": span.trace_id.hex(),
                        "span_id": span.span_id.hex(),
                        "parent_id": span.parent_span_id.hex(),
                        "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        "ended": span.end_time_unix_nano / 1e9,
                        "status": span.status.code,
                        "attributes": {one.key: _value(one.value) for one in span.attributes},
                        "resource": resource,
                        "scope": scope.scope.name,
                    }
                    for span in scope.spans
                ]


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
