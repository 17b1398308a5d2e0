"""One exchange: a request on its way to a worker and the response on its way back.

Stages: route (match, select), reach (a pooled or fresh connection), send, receive. Each failure says its
stage. What has been begun is never made to look complete: when a response breaks off, so does the client's
connection.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from greentic.router.ended import PATH_BYTES
from greentic.router.fields import STREAM_TYPES
from greentic.router.heads import facts_of, last_chunk, request_bytes, response_onward
from greentic.router.lease import Readiness
from greentic.router.matching import AmbiguousPath
from greentic.router.phases import RESPONDING, STREAMING
from greentic.router.refusal import STATUS_LINES, Ready, Refusal
from greentic.router.request_head import RequestHead
from greentic.router.selection import PREVIEW, Decision, in_session, select
from greentic.router.trust import proves
from greentic.router.tunnel import Tunnel
from greentic.spec.errors import Conflict, Denied, NotFound

if TYPE_CHECKING:
    from greentic.router.caller import Caller
    from greentic.router.client import ClientConnection
    from greentic.router.compiled import CompiledDeployment, CompiledTable
    from greentic.router.gateway import Gateway
    from greentic.router.pins import Pin
    from greentic.router.pool import UpstreamPool
    from greentic.router.response_head import ResponseHead
    from greentic.router.selection import Facts
    from greentic.router.spans import Context
    from greentic.router.tally import Tally
    from greentic.router.upstream import UpstreamConnection

_PENDING_LIMIT: Final = 64 * 1024
"""Bytes of a body kept while the worker is being reached."""
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.25
_TABLES_ASKED: Final = 3
"""How often a session's pin is asked for anew because the table changed meanwhile."""

_NO_HEAD: Final = RequestHead()
"""Of a request that could not be read."""
_NO_HEAD.method = _NO_HEAD.host = _NO_HEAD.path = b""


class Exchange:
    """A request and its response. Made when the request's head is complete; over when its last byte is handed
    on.
    """

    __slots__ = (
        "_gateway",
        "_over",
        "_pending",
        "_pending_bytes",
        "_pinning",
        "_response_started",
        "_retried",
        "_stamp",
        "_started",
        "_tally",
        "_tunnel",
        "_upstream",
        "_waits_at",
        "answered_after",
        "began",
        "caller",
        "client",
        "closes",
        "decision",
        "deployment",
        "error",
        "facts",
        "head",
        "received",
        "rechunks",
        "refusal",
        "request_complete",
        "request_id",
        "selected_at",
        "sent_before",
        "span",
        "status",
        "trusted",
    )

    head: RequestHead
    caller: Caller
    """Who asks with this request; behind a proxy that is not who holds the connection."""

    def __init__(self, gateway: Gateway, client: ClientConnection, head: RequestHead | None) -> None:
        self._gateway = gateway
        self.client = client
        self.caller = client.caller_of(head)
        if head is not None:
            self.head = head
            self.request_id = head.request_id or gateway.new_request_id()
            self.request_complete = not head.has_body
        else:
            self.head = _NO_HEAD
            self.request_id = gateway.new_request_id()
            self.request_complete = False
        self.closes = self.rechunks = self.trusted = self._stamp = False
        self._started = self._response_started = self._retried = self._over = False
        self.refusal: Refusal | None = None
        self.deployment: CompiledDeployment | None = None
        self.facts: Facts | None = None
        self.decision: Decision | None = None
        self.error: str | None = None
        self.span: Context | None = None
        """This request's place in its trace; None when it is not sampled."""
        self._tally: Tally | None = None
        self._upstream: UpstreamConnection | None = None
        self._waits_at: UpstreamPool | None = None
        self._tunnel: Tunnel | None = None
        self._pinning: bytes | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = self.received = self.status = 0
        self.selected_at = self.answered_after = 0.0
        self.sent_before = client.sent
        self.began = time.monotonic()

    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self._over

    @property
    def revision_id(self) -> str | None:
        """The revision that serves it, once selected."""
        return self.decision.revision.revision_id if self.decision is not None else None

    # Route

    def start(self) -> None:
        """It is this request's turn."""
        self._started = True
        self.sent_before = self.client.sent
        spans = self._gateway.spans
        if spans is not None:
            self.span = spans.begin(self.head.traceparent)
        if self.refusal is not None:
            self._answer(self.refusal)
            return
        try:
            facts, decision = self._route()
        except Refusal as refusal:
            self._answer(refusal)
            return
        if facts.session is not None and decision.promise is not None:
            self._in_session(facts.session, decision)
        else:
            self._begin(decision)

    def _route(self) -> tuple[Facts, Decision]:
        """The request's facts, and the decision without a session's pin."""
        gateway, head = self._gateway, self.head
        table = gateway.table
        if table is None:
            raise Refusal(503, "not-configured", "the router has not been given a routing table yet")
        if head.length > gateway.limits.max_body_bytes:
            raise _too_large(gateway.limits.max_body_bytes)
        if head.path == table.source.ready_path:
            raise _claim(gateway.readiness())
        try:
            route = table.matcher.match(head.host, head.path)
        except AmbiguousPath as error:
            raise Refusal(400, "ambiguous-path", str(error)) from None
        if route is None:
            raise Refusal(404, "no-route", "no deployment is bound to this host and path")
        self.deployment = deployment = route.target
        self.selected_at = now = time.time()
        self.trusted = trusted = self.caller.trusted or (head.said is not None and self._shows_trust(table, now))
        self.facts = facts = facts_of(head, deployment, trusted=trusted)
        try:
            return facts, select(deployment, table.source.keys, facts, now)
        except Denied as error:
            raise Refusal(403, "preview-refused", error.message) from None
        except NotFound as error:
            raise Refusal(404, "revision-not-served", error.message) from None
        except Conflict as error:
            raise Refusal(503, "no-revision", error.message) from None

    def _shows_trust(self, table: CompiledTable, now: float) -> bool:
        assert self.head.said is not None
        assert self.deployment is not None
        token = self.head.said.get(b"x-greentic-trust")
        source = table.source
        return token is not None and proves(
            source.keys, source.env_id, self.deployment.deployment_id, token, now, table.known.trusts
        )

    def _begin(self, decision: Decision) -> None:
        """The revision is known: count the request to it and reach its worker."""
        gateway = self._gateway
        assert gateway.table is not None
        self.decision = decision
        self._stamp = gateway.table.source.stamp_revision or decision.reason == PREVIEW
        self._tally = tally = gateway.tally(decision.revision.revision_id)
        tally.began(decision.reason)
        self.reach()

    # Session

    def _in_session(self, session: bytes, decision: Decision) -> None:
        """Let the pin of the request's session go first, and see that there is one from now on.

        A trusted caller's session is pinned at once, anybody else's when a worker has accepted the request: what no
        worker accepts must not fill the store (reference 04 section 1.8).
        """
        deployment, pins = self.deployment, self._gateway.pins
        assert deployment is not None
        assert decision.promise is not None
        hint = deployment.digest(b"s" + session)
        if pins.local is None:
            self._gateway.spawn(self._ask_session(session, hint, decision, self._gateway.table))
            return
        now = time.time()
        admissible = deployment.admissible(now)
        if self.trusted:
            pin = pins.local.put(deployment.scope, hint, decision.promise, admissible, now)
        else:
            pin = pins.local.look(deployment.scope, hint, admissible, now)
            if pin is None:
                self._pinning = hint
        self._begin(in_session(deployment, decision, pin, now))

    async def _ask_session(self, session: bytes, hint: bytes, decision: Decision, table: CompiledTable | None) -> None:
        """`_in_session` with a store that has to be waited for; `decision` goes by `table`. A table that came meanwhile
        counts (one may have come before this begins): nothing goes by an older one once its successor is acknowledged.
        """
        gateway = self._gateway
        for _ in range(_TABLES_ASKED):
            deployment, pins = self.deployment, gateway.pins
            assert deployment is not None
            assert decision.promise is not None
            pin = await pins.ask(deployment, hint, decision.promise if self.trusted else None)
            if self._over:
                return
            if gateway.table is table:
                self._pinning = hint if pin is None and not self.trusted else None
                decision = in_session(deployment, decision, pin, time.time())
                break
            try:
                table = gateway.table
                facts, decision = self._route()
            except Refusal as refusal:
                self.fail(refusal)
                return
            if facts.session != session or decision.promise is None:
                break
            assert self.deployment is not None
            hint = self.deployment.digest(b"s" + session)
        self._begin(decision)

    def _accepted(self, status: int) -> None:
        """A worker answered. What it refused, or sent elsewhere (to log in, say), pins nobody; 304 is an acceptance."""
        hint, self._pinning = self._pinning, None
        decision, deployment = self.decision, self.deployment
        if hint is None or decision is None or deployment is None or decision.promise is None:
            return
        if status == 101 or 200 <= status < 300 or status == 304:
            self._gateway.pin(deployment, hint, decision.promise)

    # Reach

    def reach(self) -> None:
        """Find a connection to the worker: a used one, a fresh one, or the next that there is room for."""
        gateway = self._gateway
        assert self.decision is not None
        limits = gateway.limits
        pool = gateway.pool(self.decision.revision)
        upstream = pool.take(
            repeatable=self.head.idempotent, now=gateway.now, idle_seconds=limits.upstream_idle_seconds
        )
        if upstream is not None:
            self._send(upstream)
        elif pool.has_room():
            self._connect_to(pool)
        elif pool.waiting < limits.max_waiting:
            self._waits_at = pool
            pool.wait(self, gateway.now)
        else:
            self.fail(
                Refusal(503, "worker-busy", "the worker is at its limit of connections, and too many wait for one")
            )

    def _connect_to(self, pool: UpstreamPool) -> None:
        pool.opened += 1
        self._gateway.spawn(self._connect(pool))

    async def _connect(self, pool: UpstreamPool) -> None:
        """Open a fresh connection, again and again for a while: nothing has been sent, so a worker may
        restart meanwhile. The connection is counted in `pool` already.
        """
        gateway = self._gateway
        loop = asyncio.get_running_loop()
        assert self.decision is not None
        began = loop.time()
        pause = _FIRST_PAUSE
        upstream: UpstreamConnection | None = None
        try:
            while not self.is_over():
                # The newest address of the revision: a worker that restarts may come back on another port.
                newest = gateway.pool(self.decision.revision)
                if newest is not pool:
                    newest.opened += 1
                    pool.release()
                    pool = newest
                try:
                    async with asyncio.timeout(gateway.limits.connect_seconds):
                        upstream = await pool.open()
                except TimeoutError:
                    self.fail(Refusal(504, "connect-timeout", "the worker did not accept a connection in time"))
                    return
                except OSError:
                    if loop.time() - began + pause > gateway.limits.connect_retry_seconds:
                        self.fail(Refusal(502, "worker-unreachable", "the worker refuses connections"))
                        return
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                if self.is_over():
                    pool.put(upstream, gateway.now)
                else:
                    self._send(upstream)
                return
        finally:
            if upstream is None:
                pool.release()

    # Send

    def _send(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        upstream.serve(self)
        transport = upstream.transport
        transport.write(request_bytes(self.head, self.request_id, self.caller, trusted=self.trusted, span=self.span))
        client = self.client
        client.touch()
        if self._pending:
            transport.writelines(self._pending)
            self._pending = []
            self._pending_bytes = 0
        if upstream.write_paused:
            client.pause_reading()
        elif not self.request_complete:
            client.resume_reading()
        if client.write_paused:
            upstream.pause_reading()

    def request_body(self, data: bytes) -> None:
        """Bytes of the request's body, unframed."""
        if self._over or self.refusal is not None:
            return
        self.received += len(data)
        limit = self._gateway.limits.max_body_bytes
        if self.received > limit:
            self.fail(_too_large(limit))
            return
        if self.head.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._pass_on(data)

    def request_finished(self, trailers: list[bytes]) -> None:
        """The request's body is complete."""
        self.request_complete = True
        if self.head.chunked and not self._over and self.refusal is None:
            self._pass_on(last_chunk(trailers))

    def _pass_on(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.transport.write(data)
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > _PENDING_LIMIT:
            self.client.pause_reading()

    # Receive

    def informational(self, head: ResponseHead) -> bytes:
        """A 1xx response for the client; empty when it did not ask for it or cannot take it."""
        if not self.head.modern or (head.status == 100 and not self.head.expects):
            return b""
        return b"\r\n".join([STATUS_LINES[head.status], *head.lines, b"", b""])

    def response_head(self, head: ResponseHead) -> bytes:
        """The final response's head for the client, and the state for its body."""
        self._response_started = True
        self.status = status = head.status
        request = self.head
        if not head.onward:
            head.onward = response_onward(head)
            head.streams = head.content_type.startswith(STREAM_TYPES)
        lines = [head.onward]
        if head.length is None and status != 204 and request.method != b"HEAD" and status != 304:
            if request.modern:
                self.rechunks = True
                lines.append(b"Transfer-Encoding: chunked")
            else:
                self.closes = True
        gateway = self._gateway
        if gateway.stopping or not self.request_complete:
            self.closes = True
        elif gateway.surplus and not self.closes and not self.client.more_asked:
            gateway.surplus -= 1
            self.closes = True
        if self.closes:
            lines.append(b"Connection: close")
        elif not request.modern:
            lines.append(b"Connection: keep-alive")
        self._add_stamps(lines, head)
        if self._pinning is not None:
            self._accepted(status)
        self.answered_after = time.monotonic() - self.began
        if self._tally is not None:
            self._tally.answered(status, self.answered_after)
        self.client.enter(STREAMING if head.streams else RESPONDING)
        lines += (b"", b"")
        return b"\r\n".join(lines)

    def _add_stamps(self, lines: list[bytes], head: ResponseHead) -> None:
        decision = self.decision
        assert decision is not None
        if not head.dated:
            lines.append(self._gateway.date)
        lines.append(b"X-Request-Id: " + self.request_id)
        if decision.promise is not None:
            lines.append(self._cookie(decision, decision.promise))
        elif decision.preview:
            assert self.deployment is not None
            lines.append(self.deployment.preview_line(decision.preview, secure=self.caller.secure))
        if self._stamp:
            lines.append(b"X-Greentic-Revision: " + decision.revision.header_value)
            lines.append(b"X-Greentic-Reason: " + decision.reason.encode())

    def _cookie(self, decision: Decision, promise: Pin) -> bytes:
        assert self.deployment is not None
        gateway, former = self._gateway, decision.former
        # The tally is that of the promised revision: it serves the request.
        tally = self._tally or gateway.tally(promise.revision_id)
        tally.pins.given(promise.expires)
        if former is not None:
            gateway.tally(former.revision_id).pins.returned(former.expires)
        again = decision.session is not None
        return self.deployment.cookie_line(promise, secure=self.caller.secure, again=again)

    def response_tail(self, trailers: list[bytes]) -> bytes:
        """What follows the last byte of the body."""
        return last_chunk(trailers) if self.rechunks else b""

    def response_end(self, upstream: UpstreamConnection | None) -> None:
        """The response is with the client. `upstream` is the connection when it can serve again."""
        if self._over:
            return
        self._upstream = None
        if upstream is not None:
            upstream.pool.put(upstream, self._gateway.now)
        self._end()
        self.client.exchange_over(self, close=self.closes or not self.request_complete)

    def switch_protocols(self, upstream: UpstreamConnection, head: ResponseHead, rest: bytes) -> None:
        """The worker answered 101: become a tunnel. `rest` is what followed its head."""
        client = self.client
        self._response_started = True
        self.status = 101
        lines = [response_onward(head), b"Connection: Upgrade", b"Upgrade: " + (head.upgrade or self.head.upgrade)]
        self._add_stamps(lines, head)
        self._accepted(101)
        lines += (b"", rest)
        head_bytes = b"\r\n".join(lines)
        self.answered_after = time.monotonic() - self.began
        if self._tally is not None:
            self._tally.upgraded += 1
        tunnel = Tunnel(self, upstream, websocket=head.upgrade.lower() == b"websocket")
        self._tunnel = tunnel
        self._upstream = None
        upstream.become_tunnel(tunnel)
        early = client.become_tunnel(tunnel)
        client.write(head_bytes)
        tunnel.note_upstream(rest)
        if early:
            tunnel.from_client(early)
        if client.half_closed:
            tunnel.client_eof()

    def tunnel_ended(self) -> None:
        """Both ends of the tunnel are closed."""
        if self._tally is not None:
            self._tally.upgraded -= 1
        self._end()

    # Fail

    def upstream_lost(self, upstream: UpstreamConnection) -> None:
        """The worker's connection closed before the response was complete."""
        self._upstream = None
        if self._over:
            return
        if self._response_started or upstream.answered:
            self.fail(Refusal(502, "response-truncated", "the worker closed in the middle of its response"))
        elif upstream.reused and self.head.idempotent and not self._retried:
            # RFC 9112 section 9.3.1: the worker closed an idle connection while the request was on its way.
            # On a fresh connection only: another used one may be closing too.
            self._retried = True
            assert self.decision is not None
            # In the place of the one that is gone, whoever waits.
            self._connect_to(self._gateway.pool(self.decision.revision))
        else:
            self.fail(Refusal(502, "worker-closed", "the worker closed the connection without an answer"))

    def client_lost(self, kind: str = "client-closed") -> None:
        """The client is gone, or as good as gone: nobody waits for the response."""
        if self._over:
            return
        self._drop_upstream()
        self.error = kind
        if self._tally is not None:
            self._tally.failed(kind)
        self._end()

    def fail(self, refusal: Refusal) -> None:
        """Answer with `refusal`, or cut the client's connection when the response has begun."""
        if self._over:
            return
        if not self._started:
            # Its turn has not come: the responses before it go first.
            self.refusal = refusal
            self.closes = True
            self._pending = []
            return
        self._drop_upstream()
        self.error = refusal.kind
        if self._tally is not None:
            self._tally.failed(refusal.kind)
        if self._response_started:
            if self._tally is not None and self.status < 500 <= refusal.status:
                self._tally.cut += 1
            self._end()
            # To HTTP/1.0 a body may end with its connection: only a reset tells that this one is not complete.
            self.client.abort(reset=not self.head.modern)
        else:
            self._answer(refusal)

    def cut(self) -> None:
        """End it for a drain or a stop."""
        if self._tunnel is not None:
            self._tunnel.cut()
        else:
            stopping = self._gateway.stopping
            self.fail(
                Refusal(503, "router-stopped", "the router had to end before the worker answered")
                if stopping
                else Refusal(503, "drained", "the revision was drained before it answered")
            )

    def _answer(self, refusal: Refusal) -> None:
        known = self.head is not _NO_HEAD
        close = self.closes or not self.request_complete or self._gateway.stopping
        self.status = refusal.status
        self.error = refusal.kind if refusal.status >= 400 else None
        if self._tally is not None:
            self._tally.responses[refusal.status // 100] += 1
        else:
            self._gateway.unrouted(refusal.kind)
        answer = refusal.answer(
            request_id=self.request_id.decode(),
            revision_id=self.revision_id if self._stamp else None,
            close=close,
            body=not known or self.head.method != b"HEAD",
        )
        self.client.write(answer)
        self._end()
        self.client.exchange_over(self, close=close)

    def _drop_upstream(self) -> None:
        waits_at, self._waits_at = self._waits_at, None
        if waits_at is not None:
            waits_at.leave(self)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _end(self) -> None:
        self._over = True
        self._pending = []
        tally, self._tally = self._tally, None
        client, deployment = self.client, self.deployment
        head, span = self.head, self.span
        # The fields of `Ended`.
        record = (
            self.request_id,
            time.time(),
            self.selected_at,
            time.monotonic() - self.began,
            self.answered_after,
            self.status,
            self.error,
            self.caller.address,
            head.method,
            head.host,
            head.path[:PATH_BYTES],
            deployment.row if deployment is not None else None,
            deployment.mint if deployment is not None else None,
            self.facts,
            self.decision,
            self.received,
            client.sent - self.sent_before,
            span.trace_id if span is not None else "",
        )
        self._gateway.kept.append(record)
        access_log = self._gateway.access_log
        if access_log is not None:
            access_log.write(record)
        if span is not None and (spans := self._gateway.spans) is not None:
            spans.end(span, record, secure=self.caller.secure)
        if tally is not None:
            tally.ended()

    # Back-pressure

    def pause_upstream(self) -> None:
        """The client does not keep up."""
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_upstream(self) -> None:
        """The client keeps up again."""
        if self._upstream is not None:
            self._upstream.resume_reading()


def waited_too_long() -> Refusal:
    """No connection to the worker became free in time."""
    return Refusal(503, "waiting-timeout", "no connection to the worker became free in time")


def _claim(readiness: Readiness) -> Refusal:
    return Ready() if readiness.ready else Refusal(503, "not-ready", f"this router is not ready: {readiness.reason}")


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "body-too-large", f"the request body is larger than {limit} bytes")
