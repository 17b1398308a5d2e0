"""What the router answers by itself: a status, a kind for machines and a sentence for a person, as JSON.

Body: `{"error": {"kind", "message", "request_id"}}`, with `revision` in stamp mode. No address of a worker is
ever in it.
"""

from __future__ import annotations

import json
from typing import Final

from greentic.router.dates import date_line

REASONS: Final[dict[int, bytes]] = {
    100: b"Continue",
    101: b"Switching Protocols",
    102: b"Processing",
    103: b"Early Hints",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    203: b"Non-Authoritative Information",
    204: b"No Content",
    205: b"Reset Content",
    206: b"Partial Content",
    207: b"Multi-Status",
    300: b"Multiple Choices",
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    304: b"Not Modified",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    406: b"Not Acceptable",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    411: b"Length Required",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    422: b"Unprocessable Content",
    425: b"Too Early",
    426: b"Upgrade Required",
    428: b"Precondition Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    451: b"Unavailable For Legal Reasons",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
"""Reason phrases of RFC 9110 section 15. A worker's own phrase is not passed on: it carries nothing (RFC 9112
section 4).
"""

STATUS_LINES: Final[dict[int, bytes]] = {
    status: b"HTTP/1.1 %d %b" % (status, REASONS.get(status, b"")) for status in range(100, 600)
}


class Refusal(Exception):
    """The router will not, or cannot, have this request answered by a worker."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message

    def answer(self, *, request_id: str, revision_id: str | None, close: bool, body: bool) -> bytes:
        """The whole response. `revision_id` only in stamp mode; `body` is False for an answer to HEAD."""
        content = json.dumps(self._document(request_id, revision_id), separators=(",", ":")).encode() + b"\n"
        lines = [
            STATUS_LINES[self.status],
            b"Content-Type: application/json",
            b"Content-Length: %d" % len(content),
            b"Cache-Control: no-store",
            date_line(),
            b"X-Request-Id: " + request_id.encode(),
        ]
        if revision_id is not None:
            lines.append(b"X-Greentic-Revision: " + revision_id.encode())
        if self.status == 405:
            lines.append(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
        if self.status == 503:
            lines.append(b"Retry-After: 1")
        if close:
            lines.append(b"Connection: close")
        lines += (b"", content if body else b"")
        return b"\r\n".join(lines)

    def _document(self, request_id: str, revision_id: str | None) -> dict[str, object]:
        error = {"kind": self.kind, "message": self.message, "request_id": request_id}
        return {"error": error if revision_id is None else {**error, "revision": revision_id}}


class Ready(Refusal):
    """What is answered where this router is asked whether it is ready, and it is: no worker answers that."""

    def __init__(self) -> None:
        super().__init__(200, "readiness", "ready")

    def _document(self, request_id: str, revision_id: str | None) -> dict[str, object]:  # noqa: ARG002
        return {"ready": True}
