"""What most heads of one connection have in common: a block of lines before and one behind those that vary.

Two heads of one client differ in their request line and in a few lines next to each other (Referer, a session); the
rest are the same bytes in the same places. They were read once. Of the next head only its request line and the lines
in between are read, as `greentic.router.plain_head` reads them, and what it says of the rest is taken over. A head that
is not exactly of this form is read as a whole, with the same result.
"""

from __future__ import annotations

from typing import Final

from greentic.router.fields import CALLER_VALUE, HINTS, REQUEST_ID, ours
from greentic.router.heads import END
from greentic.router.limits import Limits
from greentic.router.lines import PLAIN, VISIBLE
from greentic.router.plain_head import KNOWN_LINES, REPEATABLE, plain_head, plain_line
from greentic.router.request_head import RequestHead

_LINE_END: Final = b"\r\n"
_CALLER_BYTES: Final = 256
"""`CALLER_VALUE` as a length: its characters are those of a plain line's value."""


class RecurringLines:
    """The lines that recur, read. `front` and `back` are whole lines with their ends, `back` with that of the head too:
    where what stands between them is empty or ends with a line's end, every line is one of theirs or one in between.
    """

    __slots__ = ("_back", "_base", "_front", "_hint", "_limits", "_name", "_room")

    def __init__(
        self, front: bytes, back: bytes, base: RequestHead, limits: Limits, room: int, lines: list[bytes]
    ) -> None:
        """`lines` are some that stood in between."""
        self._front = front
        self._back = back
        self._name = b""
        """How the line begins that stands in between, where that was one of a field that goes on as it came."""
        self._hint: bytes | None = None
        """That field's name when it is one of `HINTS`."""
        plain = PLAIN.fullmatch(lines[0]) if len(lines) == 1 and room else None
        if plain is not None:
            name = plain[1].lower()
            if not ours(name):
                self._name = plain[1] + b": "
            elif name in HINTS and (base.said is None or name not in base.said):
                self._name = plain[1] + b": "
                self._hint = name
        self._base = base
        self._limits = limits
        self._room = room
        """How many lines may stand in between."""

    @staticmethod
    def of(one: bytes, other: bytes, limits: Limits) -> RecurringLines | None:
        """What two plain heads without a body have in common; None when that is not enough to read a third by."""
        ours, theirs = one[: -len(END)].split(_LINE_END), other[: -len(END)].split(_LINE_END)
        least = min(len(ours), len(theirs))
        first = next((at for at in range(1, least) if ours[at] != theirs[at]), least)
        last = next((at for at in range(least - first) if ours[-1 - at] != theirs[-1 - at]), least - first)
        before, behind = ours[1:first], ours[len(ours) - last :]
        base = plain_head(_LINE_END.join((b"GET / HTTP/1.1", *before, *behind)) + END, limits)
        reserved = KNOWN_LINES.reserved(before)
        if base is None or reserved is None or base.has_body:
            return None
        base.gap = len(before) - sum(found.name not in HINTS for found in reserved)
        front = b"".join(line + _LINE_END for line in before)
        back = b"".join(line + _LINE_END for line in behind) + _LINE_END
        room = limits.max_headers - len(before) - len(behind)
        return RecurringLines(front, back, base, limits, room, theirs[first : len(theirs) - last])

    def read(self, data: bytes) -> RequestHead | None:
        """The head of `data` when that is one plain request without a body around these lines; None: read it anew."""
        line, _, fields = data.partition(_LINE_END)
        front, back = self._front, self._back
        start = len(front)
        stop = len(fields) - len(back)
        # By slices: to ask for a beginning or an end costs three times as much.
        if start > stop or fields[:start] != front or fields[stop:] != back:
            return None
        limits = self._limits
        first = plain_line(line, limits)
        if first is None or first[0] not in REPEATABLE or len(data) > limits.max_header_bytes:
            return None
        between = fields[start:stop]
        base, name = self._base, self._name
        head = RequestHead()
        if not between:
            head.said = base.said
            head.request_id = base.request_id
        elif name and between[: len(name)] == name and _is_plain(value := between[len(name) : -2], between):
            head.between = _LINE_END + between[:-2]
            head.request_id = base.request_id
            said = base.said
            if self._hint is not None:
                known = value if len(value) <= _CALLER_BYTES else None
                said = {**said, self._hint: known} if said is not None else {self._hint: known}
            head.said = said
        else:
            lines = between.split(_LINE_END)
            if lines.pop() or len(lines) > self._room:
                return None
            onward = _read_between(head, base, lines)
            if onward is None:
                return None
            head.between = b"".join(_LINE_END + line for line in onward)
        head.method, head.target, head.path = first
        head.host = base.host
        head.host_field = base.host_field
        head.own_cookies = base.own_cookies
        head.claims = base.claims
        head.via = base.via
        head.traceparent = base.traceparent
        head.recurring = base
        return head


def _is_plain(value: bytes, line: bytes) -> bool:
    """Whether `value` is that of a plain line (`greentic.router.lines`), and `line`, of which it is, has an end."""
    return value.translate(VISIBLE).isalpha() and value[0] != 0x20 and value[-1] != 0x20 and line[-2:] == _LINE_END


def _read_between(head: RequestHead, base: RequestHead, lines: list[bytes]) -> list[bytes] | None:
    """Read the lines that vary into `head`; those that go on, or None when one of them is of another kind than usually
    varies, or came twice.
    """
    reserved = KNOWN_LINES.reserved(lines)
    if reserved is None:
        return None
    said, request_id = base.said, base.request_id
    for line, name, value in reserved:
        if name in HINTS and (said is None or name not in said):
            known = value if CALLER_VALUE.fullmatch(value) else None
            said = {**said, name: known} if said is not None else {name: known}
        elif name == b"x-request-id" and not request_id:
            if REQUEST_ID.fullmatch(value):
                request_id = value
            lines.remove(line)
        else:
            return None
    head.said = said
    head.request_id = request_id
    return lines
