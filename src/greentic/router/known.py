"""Heads that were read before. Most heads repeat: a browser says the same fields with every request of a connection, a
worker the same fields with every response to one URL.

A head is recalled only when its bytes are exactly those that the parser took and every check passed, and only at a
point where the parser stands between two messages; whatever differs in one byte is parsed. What is decided per request
(route, selection, cookies' validity, request id, limits of the table) is decided anew each time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from greentic.router.preview import PARAMETER

if TYPE_CHECKING:
    from greentic.router.limits import Limits
    from greentic.router.request_head import RequestHead
    from greentic.router.response_head import ResponseHead

REMEMBERED_BYTES: Final = 4096
"""A longer head is parsed every time: an idle connection is not to hold much."""
RESPONSES_LIMIT: Final = 64
"""Response heads remembered per worker address."""

_END: Final = b"\r\n\r\n"
_LINE: Final = re.compile(rb"(GET|HEAD) (/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*) HTTP/1\.1")
"""Narrower than what the parser takes: RFC 3986 path and query characters, of methods that are framed alike."""
_PREVIEW: Final = PARAMETER + b"="


class KnownRequest:
    """The last request of one client connection, when it was a plain one: no body, nothing that changes protocol,
    framing or the connection's fate.
    """

    __slots__ = ("_fields", "_head", "_limits", "_raw")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._raw = b""
        self._fields = b""
        self._head: RequestHead | None = None

    def remember(self, data: bytes, head: RequestHead) -> bool:
        """Keep the head of `data`, which was read as one request and nothing else; False when it is not to be kept."""
        size = len(data)
        at = data.find(b"\r\n")
        if (
            size > REMEMBERED_BYTES
            or size > self._limits.max_header_bytes
            or not (head.plain and head.keep_alive and head.modern)
            or head.has_body
            or head.preview_token is not None
            or data.find(_END) != size - len(_END)
            or _LINE.fullmatch(data, 0, at) is None
        ):
            self._raw = self._fields = b""
            self._head = None
            return False
        self._raw = data
        self._fields = data[at:]
        self._head = head
        return True

    def recall(self, data: bytes) -> RequestHead | None:
        """The head of `data` when it is one whole request with exactly the fields kept; None: parse it."""
        if data == self._raw:
            return self._head
        fields = self._fields
        at = len(data) - len(fields)
        # The first line end is where the fields begin, so that the line holds nothing but itself.
        if at <= 0 or data.find(b"\r\n") != at or not data.endswith(fields) or self._head is None:
            return None
        line = _LINE.fullmatch(data, 0, at)
        if line is None:
            return None
        method, target = line.groups()
        limits = self._limits
        if len(target) > limits.max_url_bytes or len(data) > min(limits.max_header_bytes, REMEMBERED_BYTES):
            return None
        path, _, query = target.partition(b"?")
        if _PREVIEW in query:
            return None
        self._raw = data
        self._head = head = self._head.on_another_line(method, target, path)
        return head


class KnownResponses:
    """Response heads of one worker by their bytes: those with a declared length, which leave the connection open."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, ResponseHead] = {}

    def recall(self, data: bytes) -> tuple[ResponseHead, int] | None:
        """The head that `data` begins with, and where its body begins."""
        end = data.find(_END) + len(_END)
        head = self._heads.get(data[:end])
        return (head, end) if head is not None else None

    def remember(self, data: bytes, head: ResponseHead, body_bytes: int) -> None:
        """Keep the head that `data` begins with; the parser found `body_bytes` of body behind it in `data`."""
        end = data.find(_END) + len(_END)
        if end > REMEMBERED_BYTES or len(data) - end != body_bytes:
            return
        if len(self._heads) >= RESPONSES_LIMIT:
            self._heads.clear()
        self._heads[data[:end]] = head
