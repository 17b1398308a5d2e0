"""A worker's response head as read: what the exchange makes the client's head from."""

from __future__ import annotations


class ResponseHead:
    """A response head as read from a worker; `lines` are the fields that go on as they came. Responses that repeat it
    share it. `onward` is what every client is told of it, empty until first needed; `streams` comes with it: whether
    its body may be silent for long, and `dated`: whether the worker said when.
    """

    __slots__ = ("chunked", "content_type", "dated", "length", "lines", "onward", "status", "streams", "upgrade", "via")

    def __init__(self) -> None:
        self.status = 0
        self.lines: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.content_type = b""
        self.upgrade = b""
        self.via = b""
        self.onward = b""
        self.streams = False
        self.dated = False
