"""Response heads of the plainest kind, read without the parser: a declared length and nothing about the connection.

As with requests (`greentic.router.plain_head`), what is not exactly of this form is left to the parser, whose reading
of it would be the same.
"""

from __future__ import annotations

import re
from typing import Final

from greentic.router.fields import DIGITS, RESPONSE_FIELDS
from greentic.router.heads import END
from greentic.router.lines import KnownLines
from greentic.router.response_head import ResponseHead

PLAIN_BYTES: Final = 16 * 1024
PLAIN_FIELDS: Final = 256
"""A longer head is left to the parser's side, which counts what it takes."""

_LINE: Final = re.compile(rb"HTTP/1\.1 ((?!204|304)[2-5][0-9]{2}) [\x20-\x7e]*")
_KNOWN: Final = KnownLines(RESPONSE_FIELDS)
_UNSAID: Final = frozenset(
    (b"keep-alive", b"proxy-authenticate", b"te", b"x-request-id", b"x-greentic-revision", b"x-greentic-reason")
)
"""Fields that go nowhere and mean nothing here."""


def plain_response(data: bytes) -> tuple[ResponseHead, int] | None:
    """The head that `data` begins with and where its body begins; None: the parser is to read it."""
    end = data.find(END)
    if end < 0 or end > PLAIN_BYTES:
        return None
    lines = data[:end].split(b"\r\n")
    if len(lines) > PLAIN_FIELDS:
        return None
    first = _LINE.fullmatch(lines.pop(0))
    reserved = _KNOWN.reserved(lines)
    if first is None or reserved is None:
        return None
    head = ResponseHead()
    head.status = int(first[1])
    for line, name, value in reserved:
        at = lines.index(line)
        if name == b"content-type" and not head.content_type:
            head.content_type = value.lower()
            lines[at] = b"Content-Type: " + value
            continue
        del lines[at]
        if name == b"content-length" and head.length is None and DIGITS.fullmatch(value):
            head.length = int(value)
        elif name == b"via" and not head.via:
            head.via = value
        elif name not in _UNSAID and (name != b"connection" or value != b"keep-alive"):
            return None
    if head.length is None:
        return None
    head.lines = lines
    return head, end + len(END)
