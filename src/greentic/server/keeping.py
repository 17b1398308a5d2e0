"""Operations that change something beside the document: backups, files, what is recorded of a reconciliation.

Each is an attempt like a verb: the caller first (401), what they may (403), the key (400), the body (400), then the
store, which answers a repetition verbatim and commits answer and effect together (reference 02, sections 3 and 4.8).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from greentic.engine.command import Command
from greentic.server import exchange
from greentic.server.access import UNSEEN, Principal
from greentic.server.changes import deny
from greentic.server.desk import Desk
from greentic.server.failures import PreconditionRequired
from greentic.server.reads import shown
from greentic.spec import identifiers
from greentic.spec.backup import BackupArtifact, StateIntegrity
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, CorruptDocument, Denied, GreenticError, InvalidArgument, NotImplementedYet
from greentic.spec.parsing import Payload, parse_payload
from greentic.spec.runtime import EnvironmentRuntime
from greentic.spec.verbs import Operation
from greentic.spec.wire import (
    EvidenceRequest,
    ImportRequest,
    ReconcileCompletionRequest,
    ReconcileFailed,
    RestoreRequest,
)
from greentic.store import contract, policies, trust_file
from greentic.store.contract import Applied, Backup, Settled, WritableFiles
from greentic.store.sql import artifact

MAX_ARTIFACT_BYTES = 256 * 1024 * 1024
MAX_FILE_BYTES = 1024 * 1024
RUNTIME = "runtime.json"
_ELSEWHERE = frozenset({"secrets", "credentials"})
"""Nouns whose verbs change something on a caller's machine and nothing here."""
_CUSTODY = frozenset({trust_file.FILE, policies.FILE})
"""Files that say whom an environment trusts and who may change what there."""
_WORD = re.compile(r"[a-z][a-z-]{0,62}")


@runtime_checkable
class PortableBackups(Protocol):
    """Backups that can be carried from one store to another."""

    def list(self, environment_id: str) -> tuple[Backup, ...]:
        """Oldest first."""
        ...

    def manifest(self, environment_id: str, name: str) -> dict[str, Any]:
        """The manifest of a backup."""
        ...

    def create(
        self, environment_id: str, *, idempotency_key: str, actor: str, request: contract.Request | None = None
    ) -> Applied:
        """Keep the present state; `result` has its `manifest`."""
        ...

    def delete(
        self,
        environment_id: str,
        name: str,
        *,
        idempotency_key: str,
        actor: str,
        request: contract.Request | None = None,
    ) -> Applied:
        """Remove one."""
        ...

    def restore(
        self,
        environment_id: str,
        name: str | None = None,
        *,
        idempotency_key: str,
        actor: str,
        expected_generation: int | None = None,
        if_match: str | None = None,
        request: contract.Request | None = None,
    ) -> Applied:
        """Make one the present state."""
        ...

    def accept(
        self,
        environment_id: str,
        document: Environment,
        *,
        idempotency_key: str,
        actor: str,
        request: contract.Request | None = None,
    ) -> Applied:
        """Make a mended document the present state."""
        ...

    def export(self, environment_id: str, name: str) -> Iterator[bytes]:
        """One as an artifact."""
        ...

    def import_(
        self,
        environment_id: str,
        carried: BackupArtifact,
        *,
        idempotency_key: str,
        actor: str,
        request: contract.Request | None = None,
    ) -> Applied:
        """An environment of an artifact."""
        ...


class _Nothing(Payload):
    """An operation that says all by its name and its target."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """An operation that somebody who may asks for."""

    principal: Principal
    environment_id: str
    key: str


Model = TypeVar("Model", bound=BaseModel)
Result = Callable[[Settled], Any]
Target = Mapping[str, Any]


class Keeping:
    """The handlers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def reconcile(self, operation: Operation, request: Request) -> Response:
        """Authorise a reconciliation of the state that the caller names, and hand that state out."""
        asked = await self._asked(operation, request)
        if_match = exchange.if_match(request)
        if if_match is None:
            raise PreconditionRequired("a reconciliation names the state that it is of, in the header If-Match")

        def target(settled: Mapping[str, Any] | None) -> Target:
            return {} if settled is None else {"generation": settled["generation"], "etag": settled["etag"]}

        stored = await self._desk.in_thread(partial(self._desk.store.load, asked.environment_id))
        known = {"generation": stored.generation, "etag": stored.etag}
        perform = partial(self._maintained, operation, asked, lambda _files: known, if_match)
        return await self._done(operation, asked, request, None, perform, lambda settled: settled.environment, target)

    async def complete(self, operation: Operation, request: Request) -> Response:
        """Record how a reconciliation ended; one that failed stands as such in the audit log."""
        asked = await self._asked(operation, request)
        value, read = await self._desk.read(request, partial(_parsed, ReconcileCompletionRequest))
        told = read.to_json()
        perform = partial(self._maintained, operation, asked, lambda _files: {"recorded": True}, None)
        failure = None
        if isinstance(read.completion, ReconcileFailed):
            failure = _ReconcileFailed(read.completion.error[:2_000])
        return await self._done(
            operation, asked, request, value, perform, lambda _settled: {"recorded": True}, lambda _r: told, failure
        )

    async def record(self, operation: Operation, request: Request) -> Response:
        """Record what a caller is about to do, or did, on its own machine: put a secret there, check credentials."""
        noun, verb = request.path_params["noun"], request.path_params["verb"]
        if noun not in _ELSEWHERE or not _WORD.fullmatch(verb):
            raise InvalidArgument(f"'{noun[:64]} {verb[:64]}' is not done elsewhere and recorded here")
        named = replace(operation, noun=noun, verb=verb)
        asked = await self._asked(named, request)
        value, read = await self._desk.read(request, partial(_parsed, EvidenceRequest))
        reported: GreenticError | None = None
        if read.phase == "intent":
            reported = _Announced("it is about to be done on the caller's machine; what came of it is told later")
        elif read.error is not None:
            reported = _Elsewhere(read.error.kind, read.error.message)
        perform = partial(self._maintained, named, asked, lambda _files: dict(read.result), exchange.if_match(request))
        return await self._done(
            named,
            asked,
            request,
            value,
            perform,
            lambda settled: dict(settled.result),
            lambda _r: {**read.target, "phase": read.phase},
            reported,
        )

    async def put_file(self, operation: Operation, request: Request) -> Response:
        """Write a file beside the document: what a data plane discovered, answers of an env-pack."""
        asked = await self._asked(operation, request)
        path = request.path_params["path"]
        data = await exchange.content(request, MAX_FILE_BYTES)
        _writable(path)
        if path == RUNTIME:
            value = exchange.json_of(data)
            if parse_payload(EnvironmentRuntime, value, "the body").environment_id != asked.environment_id:
                raise InvalidArgument("the body is of another environment")

        seen = exchange.file_match(request)

        def write(files: WritableFiles) -> Mapping[str, Any]:
            present = files.read(path)
            if seen is not None and seen != ("none" if present is None else exchange.digest_of(present)):
                raise Conflict(f"'{path}' is not as the caller saw it any more", details={"reason": "file-changed"})
            files.write(path, data)
            return {"path": path, "size_bytes": len(data)}

        return await self._file(operation, asked, request, path, write, exchange.digest_of(data))

    async def remove_file(self, operation: Operation, request: Request) -> Response:
        """Remove a file beside the document."""
        asked = await self._asked(operation, request)
        path = request.path_params["path"]
        _writable(path)

        def remove(files: WritableFiles) -> Mapping[str, Any]:
            files.remove(path)
            return {"path": path}

        return await self._file(operation, asked, request, path, remove, None)

    async def create(self, operation: Operation, request: Request) -> Response:
        """Keep the present state."""
        asked, kept = await self._asked(operation, request), self._backups()
        perform = partial(kept.create, asked.environment_id, idempotency_key=asked.key, actor=asked.principal.name)
        return await self._done(operation, asked, request, None, perform, lambda settled: settled.result["manifest"])

    async def list(self, _operation: Operation, request: Request) -> Response:
        """The manifests of the backups that somebody asked for, oldest first."""
        principal, environment_id = await self._reading(request, "list")
        self._whole(principal)
        kept = self._backups()

        def manifests() -> list[Mapping[str, Any]]:
            named = [one.name for one in kept.list(environment_id) if one.origin == "kept"]
            return [kept.manifest(environment_id, name) for name in sorted(named)]

        found = await self._desk.in_thread(manifests)
        return exchange.answer({"environment_id": environment_id, "backups": found})

    async def delete(self, operation: Operation, request: Request) -> Response:
        """Remove a backup."""
        asked, kept, name = await self._asked(operation, request), self._backups(), _backup_id(request)
        perform = partial(
            kept.delete, asked.environment_id, name, idempotency_key=asked.key, actor=asked.principal.name
        )
        told = {"backup_id": name, "deleted": True}
        return await self._done(
            operation, asked, request, None, perform, lambda _settled: told, lambda _r: {"backup_id": name}
        )

    async def export(self, _operation: Operation, request: Request) -> Response:
        """A backup as an artifact, verified before its first byte leaves."""
        principal, environment_id = await self._reading(request, "export")
        self._whole(principal)
        export = partial(self._backups().export, environment_id, _backup_id(request))
        stream = await self._desk.in_thread(export)
        return StreamingResponse(iterate_in_threadpool(stream), 200, {"cache-control": "no-store"}, exchange.JSON)

    async def restore(self, operation: Operation, request: Request) -> Response:
        """Make a backup the present state. Where that cannot be trusted, its generation alone is what can be named."""
        asked, kept = await self._asked(operation, request), self._backups()
        value, read = await self._desk.read(
            request, lambda given: (given, _parsed(RestoreRequest, _upper_id(given))[1])
        )
        if not read.precondition.conditional:
            raise PreconditionRequired("a restoration names the state that it replaces: if_match, expected_generation")
        generation, if_match = read.precondition.expected_generation, read.precondition.if_match
        if (read.model_extra or {}).get("over_damage") is True and await self._damaged(asked.environment_id):
            generation, if_match = None, None
        perform = partial(
            kept.restore,
            asked.environment_id,
            read.backup_id,
            idempotency_key=asked.key,
            actor=asked.principal.name,
            expected_generation=generation,
            if_match=if_match,
        )
        return await self._done(
            operation,
            asked,
            request,
            value,
            perform,
            lambda settled: {"restored_generation": settled.generation, "integrity": _integrity(settled)},
            lambda _r: {"backup_id": read.backup_id},
        )

    async def import_(self, operation: Operation, request: Request) -> Response:
        """Make an environment of an exported backup."""
        asked, kept = await self._asked(operation, request), self._backups()
        value, read = await self._desk.read(request, partial(_parsed, ImportRequest), MAX_ARTIFACT_BYTES)
        brings = await self._desk.in_thread(partial(_brings_trust, read.artifact))
        await self._require_custody(operation, asked, request, "artifact", brings=brings)
        perform = partial(
            kept.import_, asked.environment_id, read.artifact, idempotency_key=asked.key, actor=asked.principal.name
        )
        told = {"backup_id": read.artifact.manifest.backup_id, "snapshot_digest": read.artifact.snapshot_digest}
        return await self._done(
            operation,
            asked,
            request,
            value,
            perform,
            lambda settled: {"imported_generation": settled.generation, "integrity": _integrity(settled)},
            lambda _r: told,
        )

    async def accept(self, operation: Operation, request: Request) -> Response:
        """Make a mended document the present state of an environment that cannot be trusted."""
        asked, kept = await self._asked(operation, request), self._backups()
        value, document = await self._desk.read(request, _document, MAX_ARTIFACT_BYTES)
        if document.environment_id != asked.environment_id:
            raise InvalidArgument("the document is of another environment")
        await self._require_custody(operation, asked, request, "document", brings=document.trust_root is not None)
        perform = partial(
            kept.accept, asked.environment_id, document, idempotency_key=asked.key, actor=asked.principal.name
        )
        return await self._done(operation, asked, request, value, perform, lambda settled: settled.environment)

    async def _require_custody(
        self, operation: Operation, asked: _Asked, request: Request, what: str, *, brings: bool
    ) -> None:
        """Who chooses whom an environment trusts holds key custody, whether key by key or with all of a document."""
        custody = asked.principal.decide("trust-root", "add", asked.environment_id, changes=True)
        if brings and not custody.allowed:
            denied = replace(custody, reason=f"the {what} says whom the environment trusts, and {custody.reason}")
            noun, verb = operation.noun, operation.verb
            raise await deny(self._desk, asked.principal, noun, verb, asked.environment_id, denied, request)

    async def _asked(self, operation: Operation, request: Request) -> _Asked:
        principal = await self._desk.caller(request)
        environment_id = identifiers.environment_id(request.path_params["environment_id"])
        noun, verb = operation.noun, operation.verb
        decision = principal.decide(noun, verb, environment_id, changes=True)
        if decision.allowed and principal.customers is not None:
            decision = contract.Decision(False, principal.policy, UNSEEN)
        if not decision.allowed:
            raise await deny(self._desk, principal, noun, verb, environment_id, decision, request)
        exchange.rehearsed(request, possible=False)
        return _Asked(principal, environment_id, exchange.idempotency_key(request))

    async def _reading(self, request: Request, verb: str) -> tuple[Principal, str]:
        principal = await self._desk.caller(request)
        environment_id = identifiers.environment_id(request.path_params["environment_id"])
        decision = principal.decide("backup", verb, environment_id, changes=False)
        if not decision.allowed:
            raise await deny(self._desk, principal, "backup", verb, environment_id, decision, request)
        return principal, environment_id

    def _whole(self, principal: Principal) -> None:
        if principal.customers is not None:
            raise Denied(UNSEEN, details={"policy": principal.policy, "reason": UNSEEN})

    def _backups(self) -> PortableBackups:
        found = self._desk.store.backups()
        if not isinstance(found, PortableBackups):
            raise NotImplementedYet("backups of a folder are kept on its own machine: gtc op backup create there")
        return found

    def _maintained(
        self,
        operation: Operation,
        asked: _Asked,
        effect: contract.Effect,
        if_match: str | None,
        *,
        request: contract.Request,
    ) -> Applied:
        command = Command(
            asked.environment_id, operation.noun, operation.verb, _Nothing(), asked.key, asked.principal.name
        )
        return self._desk.store.maintain(command, effect, if_match=if_match, request=request)

    async def _damaged(self, environment_id: str) -> bool:
        try:
            await self._desk.in_thread(partial(self._desk.store.load, environment_id))
        except CorruptDocument:
            return True
        return False

    async def _file(
        self,
        operation: Operation,
        asked: _Asked,
        request: Request,
        path: str,
        effect: contract.Effect,
        digest: str | None,
    ) -> Response:
        perform = partial(self._maintained, operation, asked, effect, exchange.if_match(request))
        told = {"path": path} if digest is None else {"path": path, "sha256": digest}
        return await self._done(
            operation, asked, request, told, perform, lambda settled: dict(settled.result), lambda _r: told
        )

    async def _done(
        self,
        operation: Operation,
        asked: _Asked,
        request: Request,
        value: Any,
        perform: Callable[..., Applied],
        result: Result,
        target: Callable[[Mapping[str, Any] | None], Target] = lambda _result: {},
        reported: GreenticError | None = None,
    ) -> Response:
        principal, environment_id = asked.principal, asked.environment_id
        decision = principal.decide(operation.noun, operation.verb, environment_id, changes=True)

        def performed() -> Applied:
            sent = contract.Request(
                exchange.fingerprint(request, value, principal.identity),
                principal.caller,
                decision,
                lambda settled: exchange.envelope(result(settled), settled),
                lambda found: {**target(found), "environment_id": environment_id},
                reported,
            )
            return perform(request=sent)

        applied = await self._desk.in_thread(performed)
        told = exchange.replayed(applied.result) if applied.replayed else dict(applied.result)
        return exchange.answer(told, headers={"etag": f'"{told["etag"]}"'})


class _Announced(GreenticError):
    """What has not happened yet."""

    kind = "announced"


class _Elsewhere(GreenticError):
    """What somebody reports of their own machine, with its own kind."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind  # type: ignore[misc]


class _ReconcileFailed(GreenticError):
    """What somebody reports of a reconciliation."""

    kind = "reconcile-failed"


def _integrity(settled: Settled) -> Any:
    return StateIntegrity(algorithm="sha-256", digest=settled.etag).to_json()


def _brings_trust(carried: BackupArtifact) -> bool:
    """Whether an artifact says whom the environment trusts, or who may change what there."""
    content, _log = artifact.read(carried)
    return content.environment().trust_root is not None or not _CUSTODY.isdisjoint(content.files)


def _backup_id(request: Request) -> str:
    found: str = request.path_params["backup_id"].upper()
    if not identifiers.is_ulid(found):
        raise InvalidArgument("a backup is named by its ULID")
    return found


def _parsed(model: type[Model], value: Any) -> tuple[Any, Model]:
    """The body, and what it says."""
    return value, parse_payload(model, value, "the body")


def _document(value: Any) -> tuple[Any, Environment]:
    """The body, and the environment in it."""
    return value, _parsed(Environment, value.get("environment") if isinstance(value, dict) else None)[1]


def _upper_id(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("backup_id"), str):
        return {**value, "backup_id": value["backup_id"].upper()}
    return value


def _writable(path: str) -> None:
    if path != RUNTIME and not (shown(path) and not path.startswith("billing-policies/") and path != "trust-root.json"):
        raise InvalidArgument(f"'{path[:80]}' is not a file that is written from afar")
