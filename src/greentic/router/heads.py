"""Heads as the router writes them: what goes to a worker, and what is taken out of a request on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from greentic.router.refusal import STATUS_LINES
from greentic.router.selection import NO_FACTS, Facts
from greentic.router.spans import Context, continued

if TYPE_CHECKING:
    from greentic.router.caller import Caller
    from greentic.router.compiled import CompiledDeployment
    from greentic.router.request_head import RequestHead
    from greentic.router.response_head import ResponseHead

END: Final = b"\r\n\r\n"

_OUR_COOKIES: Final = b"_gt_"
_BODILESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE"))


def sort_cookies(fields: list[bytes]) -> tuple[bytes, dict[bytes, bytes | None]]:
    """The visitor's cookies for the worker, and the router's own by name. No worker sees the router's cookies: they may
    be another customer's.
    """
    if not fields:
        return b"", {}
    cookie = b"; ".join(fields)
    if cookie.find(_OUR_COOKIES) < 0:  # `in` tries a number first, at ten times the price
        return cookie, {}
    own: dict[bytes, bytes | None] = {}
    others: list[bytes] = []
    for pair in cookie.split(b";"):
        pair = pair.strip()
        name, _, value = pair.partition(b"=")
        if name.startswith((b"_gt_rev_", b"_gt_preview_")):
            # Nobody can say which of two is meant.
            own[name] = value if name not in own else None
        elif pair:
            others.append(pair)
    return b"; ".join(others), own


def facts_of(head: RequestHead, deployment: CompiledDeployment, *, trusted: bool = False) -> Facts:
    """What the request says about where it belongs in `deployment`; `trusted`: its caller is."""
    own, said = head.own_cookies, head.said
    if said is None:
        if own:
            return Facts(head.preview_token, own.get(deployment.preview_cookie_name), own.get(deployment.cookie_name))
        return NO_FACTS if head.preview_token is None else Facts(head.preview_token)
    revision = said.get(b"x-greentic-revision") if trusted else None
    session = said.get(b"x-greentic-session")
    key = None
    # The letter keeps a user from being taken for a session of the same name.
    if trusted and (user := said.get(b"x-greentic-user")) is not None:
        key = b"u" + user
    elif session is not None:
        key = b"s" + session
    elif (client := said.get(b"x-greentic-client")) is not None:
        key = b"c" + client
    preview = own.get(deployment.preview_cookie_name) if own else None
    cookie = own.get(deployment.cookie_name) if own else None
    # As `Facts(…)` does, without its detour.
    return tuple.__new__(Facts, (head.preview_token, preview, cookie, revision, key, session))


def request_bytes(
    head: RequestHead, request_id: bytes, caller: Caller, *, trusted: bool = False, span: Context | None = None
) -> bytes:
    """The request head for the worker, written anew. A `trusted` caller's word on who the user is goes on; the worker's
    parent is `span` where the request has one.
    """
    shared = head.recurring or head
    if shared.onward_of is not caller:
        shared.onward, shared.onward_behind = _request_onward(shared, caller)
        shared.onward_of = caller
    if trusted and head.said is not None and (user := head.said.get(b"x-greentic-user")) is not None:
        request_id += b"\r\nX-Greentic-User: " + user
    onward, behind = shared.onward, shared.onward_behind
    if span is not None:
        if head.traceparent:
            onward = continued(onward, head.traceparent, span)
            behind = continued(behind, head.traceparent, span)
        else:
            request_id += b"\r\ntraceparent: " + span.traceparent
    return b"".join((head.method, b" ", head.target, onward, head.between, behind, request_id, END))


def _request_onward(head: RequestHead, caller: Caller) -> tuple[bytes, bytes]:
    host_field = head.host_field or b"localhost"
    lines = [b" HTTP/1.1", b"Host: " + host_field, *head.lines, *caller.lines(host_field)]
    if head.traceparent:
        lines.append(b"traceparent: " + head.traceparent)
        lines += [b"tracestate: " + state for state in head.tracestate]
    via = b"1.1 greentic" if head.modern else b"1.0 greentic"
    lines.append(b"Via: " + (head.via + b", " + via if head.via else via))
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
    lines.append(b"X-Request-Id: ")
    if head.gap < 0:
        return b"\r\n".join(lines), b""
    at = 2 + head.gap
    return b"\r\n".join(lines[:at]), b"\r\n" + b"\r\n".join(lines[at:])


def response_onward(head: ResponseHead) -> bytes:
    """What every client is told of a response, whoever asked: status, fields, length, Via."""
    lines = [STATUS_LINES[head.status], *head.lines]
    if head.length is not None and head.status not in (101, 204):
        lines.append(b"Content-Length: %d" % head.length)
    if head.status == 426 and head.upgrade:
        # RFC 9110 section 15.5.22: what to upgrade to is the point of the answer.
        lines += (b"Connection: Upgrade", b"Upgrade: " + head.upgrade)
    lines.append(b"Via: " + head.via + b", 1.1 greentic" if head.via else b"Via: 1.1 greentic")
    onward = b"\r\n".join(lines)
    head.dated = onward.lower().find(b"\r\ndate:") >= 0
    return onward


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body (RFC 9112 section 7.1)."""
    return b"\r\n".join([b"0", *trailers, b"", b""])
