"""Heads that were read before. Many heads repeat: a poll on one connection, a worker's responses to one URL.

A head is recalled only when its bytes are exactly those that were read and passed every check, and only at a point
where the parser stands between two messages; whatever differs in one byte is read anew. What is decided per request
(route, selection, cookies' validity, request id, limits of the table) is decided anew each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from greentic.router.heads import END
from greentic.router.plain_head import plain_head
from greentic.router.plain_response import plain_response
from greentic.router.recurring import RecurringLines

if TYPE_CHECKING:
    from greentic.router.limits import Limits
    from greentic.router.request_head import RequestHead
    from greentic.router.response_head import ResponseHead

REMEMBERED_BYTES: Final = 4096
"""A longer head is parsed every time: an idle connection is not to hold much."""
RESPONSES_LIMIT: Final = 64
"""Response heads remembered per worker address."""


class KnownRequest:
    """The last plain request of one client connection: no body, nothing that changes protocol, framing or the
    connection's fate. And the lines that its requests have in common.
    """

    __slots__ = ("_head", "_limits", "_raw", "_recurring", "_strange")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._raw = b""
        self._head: RequestHead | None = None
        self._recurring: RecurringLines | None = None
        self._strange = 0
        """Heads in a row that had to be read as a whole."""

    def remember(self, data: bytes, head: RequestHead) -> bool:
        """Keep the head of `data`, which the parser read as one request and nothing else; False when the parser may
        expect something else than another request.
        """
        if (
            not (head.plain and head.keep_alive and head.modern)
            or head.has_body
            or data.find(END) != len(data) - len(END)
        ):
            return False
        if len(data) <= REMEMBERED_BYTES and head.preview_token is None:
            self._raw = data
            self._head = head
        return True

    def recall(self, data: bytes) -> RequestHead | None:
        """The head of `data` when it is one whole plain request; None: parse it."""
        if data == self._raw:
            return self._head
        recurring = self._recurring
        head = recurring.read(data) if recurring is not None else None
        if head is not None:
            self._strange = 0
        else:
            head = plain_head(data, self._limits)
            if head is None or head.has_body:
                return head
            self._strange += 1
            # Seldom and more seldom where heads have nothing in common.
            if self._raw and self._strange.bit_count() == 1:
                self._recurring = RecurringLines.of(self._raw, data, self._limits)
        if len(data) <= REMEMBERED_BYTES:
            self._raw = data
            self._head = head
        return head


class KnownResponses:
    """Plain response heads of one worker by their bytes."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, ResponseHead] = {}

    def recall(self, data: bytes) -> tuple[ResponseHead, int] | None:
        """The plain head that `data` begins with, and where its body begins; None: parse it."""
        end = data.find(END) + len(END)
        head = self._heads.get(data[:end])
        if head is not None:
            return head, end
        read = plain_response(data)
        if read is not None and end <= REMEMBERED_BYTES:
            if len(self._heads) >= RESPONSES_LIMIT:
                self._heads.clear()
            self._heads[data[:end]] = read[0]
        return read
