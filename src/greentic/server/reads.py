"""What is read over the wire: plain JSON without an envelope (reference 02, section 4), conditional where it can be."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from greentic.operations import trust_root
from greentic.server import exchange, views, watching
from greentic.server.access import UNSEEN, Principal
from greentic.server.desk import Desk
from greentic.server.watching import Feed
from greentic.spec import identifiers
from greentic.spec.errors import CorruptDocument, Denied, InvalidArgument, NotFound
from greentic.store.contract import Stored

MAX_PAGE = 1_000
_KEPT = 64
"""Environments whose JSON is kept, so that reading one again costs no encoding."""
_SHOWN = ("billing-policies/", "env-packs/", "extensions/")
_SHOWN_FILES = {"trust-root.json", "update-channel.json"}


def shown(path: str) -> bool:
    """Whether a file beside the document may leave the server: keys and secrets of a data plane stand there too."""
    return path.startswith(_SHOWN) or path in _SHOWN_FILES


class Reads:
    """The handlers of every read."""

    def __init__(self, desk: Desk, feed: Feed) -> None:
        self._desk = desk
        self._feed = feed
        self._encoded: OrderedDict[tuple[str, str, frozenset[str] | None], bytes] = OrderedDict()

    async def environments(self, request: Request) -> Response:
        """The environments that the caller sees, by name; `limit` and `after` (ours) ask for a page."""
        principal = await self._desk.caller(request)
        decision = principal.decide("env", "list", None, changes=False)
        if not decision.allowed:
            raise Denied(decision.reason, details={"policy": decision.policy, "reason": decision.reason})
        limit, after = _number(request, "limit", 1, MAX_PAGE), request.query_params.get("after", "")
        names = await self._desk.in_thread(self._desk.store.names)
        found = [name for name in names if name > after and principal.sees(name)]
        page = found if limit is None else found[:limit]
        told: dict[str, Any] = {"environments": page}
        if limit is not None and len(found) > limit:
            told["next"] = page[-1]
        return exchange.answer(told)

    async def environment(self, request: Request) -> Response:
        """The whole document with its etag and generation."""
        principal, environment_id = await self._seen(request, "env", "show")
        stored = await self._load(environment_id)
        headers = {"etag": f'"{stored.etag}"', "cache-control": "no-store", "vary": "authorization"}
        if exchange.unchanged(request, stored.etag):
            return Response(None, 304, headers)
        key = (environment_id, stored.etag, principal.customers)
        document = self._encoded.get(key)
        if document is None:
            document = to_json(views.of(stored.environment, principal.customers).to_json())
            self._encoded[key] = document
            while len(self._encoded) > _KEPT:
                self._encoded.popitem(last=False)
        told = b'{"environment":%b,"etag":"%b","generation":%d}' % (document, stored.etag.encode(), stored.generation)
        return Response(told, 200, headers, exchange.JSON)

    async def runtime(self, request: Request) -> Response:
        """What the data plane discovered of itself; null while nothing was recorded."""
        principal, environment_id = await self._seen(request, "env", "show")
        self._whole(principal)  # routes, workers and addresses of every deployment
        await self._load(environment_id)
        data = await self._desk.in_thread(partial(self._desk.store.files(environment_id).read, "runtime.json"))
        return exchange.answer({"runtime": None if data is None else exchange.json_of(data)})

    async def trust_root(self, request: Request) -> Response:
        """Whom the environment trusts, and (ours) whom it trusts no more."""
        principal, environment_id = await self._seen(request, "trust-root", "list")
        self._whole(principal)
        listed = partial(trust_root.list_, self._desk.context(principal), environment_id)
        return exchange.answer(await self._desk.in_thread(listed))

    async def audit(self, request: Request) -> Response:
        """A page of the audit log after entry number `after`, `next` is where the following one begins; or its entries
        as they come, for those who accept a stream of events."""
        principal, environment_id = await self._seen(request, "audit", "list")
        self._whole(principal)
        after = _number(request, "after", 0, 2**62) or 0
        if watching.wanted(request):
            await self._exists(environment_id)
            resumed = watching.last_event_id(request)
            return self._feed.audit(request, principal.name, environment_id, after if resumed is None else resumed)
        limit = _number(request, "limit", 1, MAX_PAGE) or MAX_PAGE
        tail = _number(request, "tail", 1, MAX_PAGE)
        if tail is not None:
            await self._exists(environment_id)
            newest = await self._desk.in_thread(lambda: self._desk.store.audit(environment_id).tail(tail))
            return exchange.answer({"environment_id": environment_id, "events": list(newest)})
        events = await self._desk.in_thread(partial(self._desk.store.events, environment_id, after, limit))
        last = events[-1]["sequence"] if events else after
        return exchange.answer({"environment_id": environment_id, "events": list(events), "next": last})

    async def audit_head(self, request: Request) -> Response:
        """The newest signed head of the audit log, as it was signed."""
        principal, environment_id = await self._seen(request, "audit", "head")
        self._whole(principal)
        await self._exists(environment_id)
        data = await self._desk.in_thread(partial(self._desk.store.head, environment_id))
        if data is None:
            raise NotFound("nobody signed the audit log", details={"path": "audit/head"})
        return Response(data, 200, {"cache-control": "no-store"}, "application/octet-stream")

    async def watch(self, request: Request) -> Response:
        """The environment's generation and etag, now and whenever they change."""
        principal, environment_id = await self._seen(request, "env", "watch")
        await self._load(environment_id)
        return self._feed.states(request, principal.name, environment_id)

    async def files(self, request: Request) -> Response:
        """The paths of the files beside the document that stand below the folder `under`."""
        principal, environment_id = await self._seen(request, "files", "list")
        self._whole(principal)
        await self._load(environment_id)
        beside, under = self._desk.store.files(environment_id), request.query_params.get("under", "")
        listed = await self._desk.in_thread(partial(beside.names, under)) if shown(f"{under}/") else ()
        names = [name for name in listed if shown(name)]
        return exchange.answer({"environment_id": environment_id, "files": list(names)})

    async def file(self, request: Request) -> Response:
        """One file beside the document, such as a signed revenue policy, as it is."""
        principal, environment_id = await self._seen(request, "files", "show")
        self._whole(principal)
        await self._load(environment_id)
        path = request.path_params["path"]
        read = partial(self._desk.store.files(environment_id).read, path)
        data = await self._desk.in_thread(read) if shown(path) else None
        if data is None:
            raise NotFound(f"there is no file '{path[:200]}' beside the environment", details={"path": path[:200]})
        return Response(data, 200, {"cache-control": "no-store"}, "application/octet-stream")

    async def _seen(self, request: Request, noun: str, verb: str) -> tuple[Principal, str]:
        """(who asks, the environment): Denied before anybody looks whether it is there."""
        principal = await self._desk.caller(request)
        environment_id = identifiers.environment_id(request.path_params["environment_id"])
        decision = principal.decide(noun, verb, environment_id, changes=False)
        if not decision.allowed:
            raise Denied(decision.reason, details={"policy": decision.policy, "reason": decision.reason})
        return principal, environment_id

    def _whole(self, principal: Principal) -> None:
        """Denied for whoever is there for some customers only: this concerns all of them."""
        if principal.customers is not None:
            raise Denied(UNSEEN, details={"policy": principal.policy, "reason": UNSEEN})

    async def _exists(self, environment_id: str) -> None:
        """NotFound when there is no such environment; one that cannot be trusted still has its audit log."""
        with suppress(CorruptDocument):
            await self._load(environment_id)

    async def _load(self, environment_id: str) -> Stored:
        return await self._desk.in_thread(partial(self._desk.store.load, environment_id))


def _number(request: Request, name: str, least: int, most: int) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 20 and least <= int(given) <= most):
        raise InvalidArgument(f"the query parameter {name} is a whole number from {least} to {most}")
    return int(given)
