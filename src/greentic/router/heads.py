"""Heads as the router writes them: what goes to a worker, and what is taken out of a request on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from greentic.router.selection import NO_FACTS, Facts

if TYPE_CHECKING:
    from greentic.router.client import ClientConnection
    from greentic.router.compiled import CompiledDeployment
    from greentic.router.request import RequestHead

_OUR_COOKIES: Final = b"_gt_"
_BODILESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE"))


def take_facts(head: RequestHead, deployment: CompiledDeployment) -> Facts:
    """The facts for selection; the visitor's other cookies are put back among the lines that go on."""
    cookie = head.cookie
    if _OUR_COOKIES not in cookie:
        if cookie:
            head.lines.append(b"Cookie: " + cookie)
        return NO_FACTS if head.preview_token is None else Facts(head.preview_token)
    found: dict[bytes, bytes | None] = {}
    others: list[bytes] = []
    for pair in cookie.split(b";"):
        pair = pair.strip()
        name, _, value = pair.partition(b"=")
        if name.startswith((b"_gt_rev_", b"_gt_preview_")):
            # Nobody can say which of two is meant. No worker sees the router's cookies: they may be
            # another customer's.
            found[name] = value if name not in found else None
        elif pair:
            others.append(pair)
    if others:
        head.lines.append(b"Cookie: " + b"; ".join(others))
    return Facts(head.preview_token, found.get(deployment.preview_cookie_name), found.get(deployment.cookie_name))


def request_bytes(head: RequestHead, request_id: bytes, client: ClientConnection) -> bytes:
    """The request head for the worker, written anew."""
    host_field = head.host_field or b"localhost"
    lines = [head.method + b" " + head.target + b" HTTP/1.1", b"Host: " + host_field]
    lines += head.lines
    lines += client.forwarded_lines(host_field)
    via = b"1.1 greentic" if head.modern else b"1.0 greentic"
    lines.append(b"Via: " + (head.via + b", " + via if head.via else via))
    lines.append(b"X-Request-Id: " + request_id)
    if head.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif head.length or head.method not in _BODILESS:
        lines.append(b"Content-Length: %d" % head.length)
    if head.expects:
        lines.append(b"Expect: 100-continue")
    if head.upgrade:
        lines += (b"Connection: Upgrade", b"Upgrade: " + head.upgrade)
    elif head.trailers_welcome:
        lines += (b"Connection: TE", b"TE: trailers")
    lines += (b"", b"")
    return b"\r\n".join(lines)


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body (RFC 9112 section 7.1)."""
    return b"\r\n".join([b"0", *trailers, b"", b""])
