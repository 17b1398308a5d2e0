"""The ASGI application: every route of the server, derived from the registry of verbs.

Whatever a handler raises is told in the shape of A8 here, and so are paths and methods that there are not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from greentic.server import changes, exchange, openapi
from greentic.server.changes import seeds
from greentic.server.desk import Desk
from greentic.server.doors import GuardedDoor
from greentic.server.keeping import Keeping
from greentic.server.metrics import CONTENT_TYPE, Counts
from greentic.server.reads import Reads
from greentic.server.watching import Feed
from greentic.spec.errors import Denied, GreenticError
from greentic.spec.verbs import OPERATIONS, VERBS, Operation

SERVICE = "greentic-operator-store-server"
LOG = logging.getLogger("greentic.server")
Handler = Callable[[Request], Awaitable[Response]]


class StoreServer(Starlette):
    """The application; `feed` are its streams, which must end before the server can."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.feed, self.counts = desk, Feed(desk), Counts()
        super().__init__(
            routes=self._routes(), exception_handlers={HTTPException: self._no_route, Exception: self._defect}
        )
        self.router.redirect_slashes = False  # a redirection would lead to whatever host the request names

    def _routes(self) -> list[Route]:
        """Every route: of A8, of our words for each verb, and of what the server does beside."""
        handlers = self._handlers()
        found = []
        for operation in OPERATIONS:
            handler = self._told(operation.route.path, handlers[operation.noun, operation.verb])
            path = operation.route.path.replace("{path}", "{path:path}")
            found.append(Route(path, handler, methods=[operation.route.method]))
        for verb in VERBS:
            may_seed = seeds(verb)
            if verb.route is not None:
                said = changes.in_words_of_a8(self.desk, verb)
                handler = self._told(verb.route.path, said, seeds=may_seed)
                found.append(Route(verb.route.path, handler, methods=[verb.route.method]))
            ours = self._told(verb.path, changes.in_our_words(self.desk, verb), seeds=may_seed)
            found.append(Route(verb.path, ours, methods=["POST"]))
        return _joined(found)

    def _handlers(self) -> Mapping[tuple[str, str], Handler]:
        reads, keeping = Reads(self.desk, self.feed), Keeping(self.desk)
        kept = {
            ("env", "reconcile"): keeping.reconcile,
            ("env", "reconcile-complete"): keeping.complete,
            ("evidence", "record"): keeping.record,
            ("files", "put"): keeping.put_file,
            ("files", "remove"): keeping.remove_file,
            ("backup", "create"): keeping.create,
            ("backup", "list"): keeping.list,
            ("backup", "delete"): keeping.delete,
            ("backup", "export"): keeping.export,
            ("backup", "restore"): keeping.restore,
            ("backup", "import"): keeping.import_,
            ("backup", "accept"): keeping.accept,
        }
        named: dict[tuple[str, str], Operation] = {(one.noun, one.verb): one for one in OPERATIONS}
        return {
            ("server", "alive"): self._alive,
            ("server", "ready"): self._ready,
            ("server", "metrics"): self._metrics,
            ("server", "openapi"): self._openapi,
            ("env", "list"): reads.environments,
            ("env", "show"): reads.environment,
            ("env", "runtime"): reads.runtime,
            ("env", "watch"): reads.watch,
            ("trust-root", "list"): reads.trust_root,
            ("audit", "list"): reads.audit,
            ("audit", "head"): reads.audit_head,
            ("files", "list"): reads.files,
            ("files", "show"): reads.file,
            **{name: partial(handler, named[name]) for name, handler in kept.items()},
        }

    def _told(self, route: str, handler: Handler, *, seeds: bool = False) -> Handler:
        """`handler`, counted, its refusals told as answers."""

        async def answered(request: Request) -> Response:
            begun = time.perf_counter()
            try:
                answer = await handler(request)
            except GreenticError as error:
                answer = exchange.refusal(error, seeds=seeds)
                if answer.status_code >= 500 and answer.status_code != 501:
                    LOG.error("%s %s: %s: %s", request.method, request.url.path, error.kind, error.message)
            self.counts.answered(request.method, route, answer.status_code, time.perf_counter() - begun)
            return answer

        return answered

    async def _alive(self, _request: Request) -> Response:
        """That the process answers; touches no store."""
        return exchange.answer({"status": "ok", "service": SERVICE, "version": version("greentic")})

    async def _ready(self, _request: Request) -> Response:
        """That the store can be written, durably."""
        try:
            await self.desk.probed()
        except GreenticError as error:
            LOG.error("not ready: %s", error.message)
            return exchange.answer({"status": "unready", "error": "the store cannot be written"}, 503)
        return exchange.answer({"status": "ready"})

    async def _metrics(self, request: Request) -> Response:
        """What was counted, for those who are known."""
        principal = await self.desk.caller(request)
        decision = principal.decide("server", "metrics", None, changes=False)
        if not decision.allowed:
            raise Denied(decision.reason, details={"policy": decision.policy, "reason": decision.reason})
        self.counts.streams.set(self.feed.streams)
        if isinstance(self.desk.doorkeeper, GuardedDoor):
            self.counts.reload_failures.set(self.desk.doorkeeper.reload_failures)
        return Response(self.counts.text(), 200, {"cache-control": "no-store"}, CONTENT_TYPE)

    async def _openapi(self, _request: Request) -> Response:
        """The description of this interface, which holds nothing of the store."""
        return Response(openapi.text(), 200, {"cache-control": "max-age=3600"}, exchange.JSON)

    async def _no_route(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "registered for it"
        if error.status_code == 405:
            told = {"kind": "method-not-allowed", "detail": "this path does not take this method"}
            return exchange.answer(told, 405, error.headers)
        detail = "there is no such path on this server"
        return exchange.answer({"kind": "no-such-path", "detail": detail}, error.status_code, error.headers)

    async def _defect(self, request: Request, error: Exception) -> Response:
        LOG.error("a defect in %s %s", request.method, request.url.path, exc_info=error)
        return exchange.refusal(GreenticError("a defect"))


def _joined(found: list[Route]) -> list[Route]:
    """One route per path, so that a method it does not take is answered with all that it does."""
    by_path: dict[str, dict[str, Callable[[Request], Awaitable[Response]]]] = {}
    for route in found:
        for method in route.methods or ():
            if method != "HEAD":
                by_path.setdefault(route.path, {})[method] = route.endpoint
    return [_route(path, methods) for path, methods in by_path.items()]


def _route(path: str, methods: Mapping[str, Handler]) -> Route:
    async def chosen(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, chosen, methods=list(methods))
