"""The ASGI application: every route of the server, derived from the registry of verbs.

Whatever a handler raises is told in the shape of A8 here, and so are paths and methods that there are not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from greentic.server import changes, exchange
from greentic.server.changes import seeds
from greentic.server.desk import Desk
from greentic.server.reads import Reads
from greentic.spec.errors import GreenticError
from greentic.spec.verbs import ENVIRONMENT, VERBS

SERVICE = "greentic-operator-store-server"
LOG = logging.getLogger("greentic.server")
Handler = Callable[[Request], Awaitable[Response]]


def application(desk: Desk) -> Starlette:
    """The server over `desk`."""
    return Starlette(routes=routes(desk), exception_handlers={HTTPException: _no_route, Exception: _defect})


def routes(desk: Desk) -> list[Route]:
    """Every route: of A8, of our words for each verb, and of what is read."""
    reads = Reads(desk)
    found = [
        Route("/healthz", _alive, methods=["GET"]),
        Route("/readyz", _told(_Ready(desk)), methods=["GET"]),
        Route("/environments", _told(reads.environments), methods=["GET"]),
        Route(ENVIRONMENT, _told(reads.environment), methods=["GET"]),
        Route(f"{ENVIRONMENT}/runtime", _told(reads.runtime), methods=["GET"]),
        Route(f"{ENVIRONMENT}/trust-root", _told(reads.trust_root), methods=["GET"]),
        Route(f"{ENVIRONMENT}/audit", _told(reads.audit), methods=["GET"]),
        Route(f"{ENVIRONMENT}/files", _told(reads.files), methods=["GET"]),
        Route(f"{ENVIRONMENT}/files/{{path:path}}", _told(reads.file), methods=["GET"]),
    ]
    for verb in VERBS:
        may_seed = seeds(verb)
        if verb.route is not None:
            handler = _told(changes.in_words_of_a8(desk, verb), seeds=may_seed)
            found.append(Route(verb.route.path, handler, methods=[verb.route.method]))
        ours = _told(changes.in_our_words(desk, verb), seeds=may_seed)
        found.append(Route(verb.path, ours, methods=["POST"]))
    return found


def _told(handler: Handler, *, seeds: bool = False) -> Handler:
    """`handler`, its refusals told as answers."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except GreenticError as error:
            answer = exchange.refusal(error, seeds=seeds)
            if answer.status_code >= 500 and answer.status_code != 501:
                LOG.error("%s %s: %s: %s", request.method, request.url.path, error.kind, error.message)
            return answer

    return answered


async def _alive(_request: Request) -> Response:
    """That the process answers; touches no store."""
    return exchange.answer({"status": "ok", "service": SERVICE, "version": version("greentic")})


class _Ready:
    """That the store can be used."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, _request: Request) -> Response:
        try:
            await self._desk.in_thread(self._desk.store.probe)
        except GreenticError as error:
            LOG.error("not ready: %s", error.message)
            return exchange.answer({"status": "unready", "error": "the store cannot be used"}, 503)
        return exchange.answer({"status": "ready"})


async def _no_route(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    if error.status_code == 405:
        told = {"kind": "method-not-allowed", "detail": "this path does not take this method"}
        return exchange.answer(told, 405, error.headers)
    detail = "there is no such path on this server"
    return exchange.answer({"kind": "no-such-path", "detail": detail}, error.status_code, error.headers)


async def _defect(request: Request, error: Exception) -> Response:
    LOG.error("a defect in %s %s", request.method, request.url.path, exc_info=error)
    return exchange.refusal(GreenticError("a defect"))
