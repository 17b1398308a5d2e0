"""Environments on a store server, by the port of the store; what is promised stands in `store.contract`.

What only the server knows (its operator key, what it signs) it adds by itself: `complete` is not asked here. The files
of revisions and of a data plane on this machine stay on this machine, in a folder per server and environment.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from greentic.engine.command import Command
from greentic.spec import identifiers
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, GreenticError, NotFound, NotImplementedYet, StoreError
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import parse
from greentic.store import trust_file
from greentic.store.contract import Applied, Complete, Effect, Files, Listing, Stored
from greentic.store.preconditions import Precondition, meet
from greentic.store.remote import reference
from greentic.store.remote.kept import RemoteBackups, RemoteTrail
from greentic.store.remote.origin import Origin
from greentic.store.remote.transport import Answer, NoSuchPath, Transport, joined, unsure
from greentic.store.verification import AuditReport
from greentic.trust import health

ENVIRONMENTS = "environments"
FOLDER = ".remote"
PAGE = 500
REWRITES = 5


class RemoteStore:
    """The environments of the server at `origin`; what belongs on this machine goes below `root`."""

    def __init__(self, origin: Origin, root: Path, transport: Transport | None = None) -> None:
        self.origin = origin
        self._folder = root / FOLDER / origin.place
        self._transport = transport or Transport(origin)
        self._seen: dict[str, Stored] = {}
        self._a8_only = False

    def close(self) -> None:
        """Let go of the connections."""
        self._transport.close()

    def load(self, environment_id: str) -> Stored:
        """The newest committed state; one that this process has already is not sent again."""
        name = identifiers.environment_id(environment_id)
        known = self._seen.get(name)
        headers = {} if known is None else {"if-none-match": f'"{known.etag}"'}
        answer = self._transport.read(joined(ENVIRONMENTS, name), headers)
        if answer.status == 304 and known is not None:
            return known
        value = answer.value
        if not isinstance(value, dict):
            raise _unintelligible("an environment")
        return self._remember(name, value.get("environment"), value.get("etag"), value.get("generation"))

    def apply(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,  # noqa: ARG002
    ) -> Applied:
        """Carry out `command` on the server. `complete` is the server's business."""
        if self._a8_only:
            return self._in_words_of_a8(command, expected_generation, if_match)
        try:
            answer = self._asked(command, expected_generation, if_match, dry_run=False)
        except NoSuchPath:
            self._a8_only = True
            return self._in_words_of_a8(command, expected_generation, if_match)
        key = command.idempotency_key
        replayed = _success(answer, command)
        try:
            return self._applied(command, answer.value, replayed=replayed)
        except GreenticError as error:
            raise unsure(f"the server reported success, but {error.message}", key) from None

    def _in_words_of_a8(self, command: Command, generation: int | None, if_match: str | None) -> Applied:
        """The same by a server that has no words of ours. It knows no generations as preconditions: the etag that goes
        with the expected one is sent instead."""
        name = identifiers.environment_id(command.environment_id)
        before = self._present(name)
        if generation is not None:
            meet(Precondition(generation, None), before)
            assert before is not None, "it has the expected generation"
            if_match = if_match or before.etag
        environment = None if before is None else before.environment
        if (command.noun, command.verb) in reference.SILENT:
            stored = self.load(name)
            result = reference.silent(command, stored.environment)
            return Applied(result, stored.environment, stored.generation, stored.etag)
        said = reference.said(command, environment)
        segments = (ENVIRONMENTS,) if said.path == ("..",) else (ENVIRONMENTS, name, *said.path)
        headers = _shown(command)
        if if_match is not None:
            headers["if-match"] = f'"{if_match}"'
        self._seen.pop(name, None)
        answer = self._transport.change(said.method, joined(*segments), said.body, command.idempotency_key, headers)
        replayed = _success(answer, command)
        try:
            after = self.load(name)
            result = reference.heard(command, answer.value.get("result"), environment, after.environment)
        except (GreenticError, KeyError, TypeError, AttributeError) as error:
            raise unsure(
                f"the server reported success, but told it strangely: {error}", command.idempotency_key
            ) from None
        return Applied(result, after.environment, after.generation, after.etag, replayed=replayed)

    def _present(self, name: str) -> Stored | None:
        try:
            return self.load(name)
        except NotFound:
            return None

    def plan(
        self,
        command: Command,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
        complete: Complete | None = None,  # noqa: ARG002
    ) -> Applied:
        """What `apply` would answer now, as the server tells it; NotImplementedYet by one that rehearses nothing."""
        answer = self._asked(command, expected_generation, if_match, dry_run=True)
        if not isinstance(answer.value, dict):
            raise _unintelligible("a plan")
        replayed = answer.value.get("idempotency") == {"idempotency": "replayed"}
        return self._applied(command, answer.value, replayed=replayed, planned=True)

    def list(self) -> tuple[Listing, ...]:
        """Every environment that the server shows, by name."""
        names: list[str] = []
        after = ""
        while True:
            query = f"{ENVIRONMENTS}?limit={PAGE}" + (f"&after={joined(after)}" if after else "")
            value = self._transport.read(query).value
            if not isinstance(value, dict) or not isinstance(value.get("environments"), list):
                raise _unintelligible("a list")
            names += [name for name in map(str, value["environments"]) if name not in names]
            if not isinstance(value.get("next"), str) or value["next"] <= after:
                return tuple(map(self._listing, sorted(names)))
            after = value["next"]

    def files(self, environment_id: str) -> Files:
        """What stands beside the environment's document on the server."""
        return RemoteFiles(self._transport, identifiers.environment_id(environment_id))

    def maintain(
        self,
        command: Command,
        effect: Effect,
        *,
        expected_generation: int | None = None,
        if_match: str | None = None,
    ) -> Applied:
        """Run `effect`, which does something on this machine, and have it recorded: announced before, told after.

        The key that was used before is answered as it was then, though `effect` ran again: it does the same again.
        """
        name = identifiers.environment_id(command.environment_id)
        stored = self.load(name)
        meet(Precondition(expected_generation, if_match), stored)
        where = joined(ENVIRONMENTS, name, "evidence", command.noun, command.verb)
        key, target = command.idempotency_key, command.payload.to_json()
        announced = {"phase": "intent", "target": target}
        self._transport.change("POST", where, announced, f"{key}:announced", {})
        told: dict[str, Any] = {"phase": "outcome", "target": target}
        try:
            told["result"] = dict(effect(_Nowhere()))
        except GreenticError as error:
            told["error"] = {"kind": error.kind, "message": error.message[:2_000]}
            with suppress(GreenticError):
                self._transport.change("POST", where, told, key, {})
            raise
        answer = self._transport.change("POST", where, told, key, {})
        return self._changed(name, answer.value)

    def rewrite(self, command: Command, path: str, change: Callable[[bytes | None], Any]) -> Applied:
        """Make the file `path` beside the document what `change` makes of it, a JSON value; anew when somebody else was
        quicker. Conflict when that goes on."""
        name = identifiers.environment_id(command.environment_id)
        where = joined(ENVIRONMENTS, name, "files", *path.split("/"))
        for left in reversed(range(REWRITES)):
            present = self.files(name).read(path)
            seen = "none" if present is None else hashlib.sha256(present).hexdigest()
            try:
                answer = self._transport.change(
                    "PUT", where, change(present), command.idempotency_key, {"if-file-match": seen}
                )
            except Conflict as error:
                if error.details.get("reason") != "file-changed" or not left:
                    raise
                continue
            return self._changed(name, answer.value)
        raise AssertionError("the last try ends it")

    def audit(self, environment_id: str) -> RemoteTrail:
        """The environment's audit log, for reading."""
        return RemoteTrail(self._transport, identifiers.environment_id(environment_id))

    def head(self, environment_id: str) -> bytes | None:
        """The newest signed head of its audit log, None when nobody signed one."""
        try:
            return self._transport.content(joined(ENVIRONMENTS, environment_id, "audit", "head"))
        except NotFound as error:
            if "path" in error.details:
                return None
            raise

    def verify_audit(self, environment_id: str) -> AuditReport:
        """Check its audit log here, against itself."""
        return self.audit(environment_id).verify()

    def backups(self) -> RemoteBackups:
        """The backups on the server."""
        return RemoteBackups(self._transport, self.load, self._changed)

    def artifacts(self, environment_id: str) -> Path:
        """The folder on this machine for what belongs to the environment here."""
        folder = self._folder / identifiers.environment_id(environment_id)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def data_plane_key(self, environment_id: str) -> Path:
        """Where the key is with which the data plane on this machine signs what it sees of the environment."""
        return Path(os.path.realpath(self.artifacts(environment_id))) / "data-plane" / "key.pem"

    def _changed(self, environment_id: str, value: Any) -> Applied:
        """What an operation beside the verbs came to, with the state as it is now."""
        if not isinstance(value, dict) or not isinstance(value.get("result"), dict):
            raise _unintelligible("a change")
        self._seen.pop(environment_id, None)
        stored = self.load(environment_id)
        replayed = value.get("idempotency") == {"idempotency": "replayed"}
        return Applied(value["result"], stored.environment, stored.generation, stored.etag, replayed=replayed)

    def _listing(self, name: str) -> Listing:
        try:
            return Listing(name, stored=self.load(name))
        except GreenticError as error:
            return Listing(name, error=error)

    def _asked(self, command: Command, generation: int | None, if_match: str | None, *, dry_run: bool) -> Answer:
        headers = {"prefer": "return=representation", **_shown(command)}
        if generation is not None:
            headers["if-generation-match"] = str(generation)
        if if_match is not None:
            headers["if-match"] = f'"{if_match}"'
        name = identifiers.environment_id(command.environment_id)
        where = joined(ENVIRONMENTS, name, "verbs", command.noun, command.verb) + ("?dry_run=true" if dry_run else "")
        try:
            body = command.payload.to_json()
            return self._transport.change("POST", where, body, command.idempotency_key, headers)
        except GreenticError:
            self._seen.pop(name, None)
            raise

    def _applied(self, command: Command, value: Mapping[str, Any], *, replayed: bool, planned: bool = False) -> Applied:
        present = value.get("present")
        if not isinstance(present, dict):
            raise _unintelligible("a change")
        name = command.environment_id
        found = (present.get("environment"), present.get("etag"), present.get("generation"))
        stored = _stored(name, *found) if planned else self._remember(name, *found)
        result = value.get("result")
        if not isinstance(result, dict):
            raise _unintelligible("a result")
        return Applied(result, stored.environment, stored.generation, stored.etag, replayed=replayed)

    def _remember(self, name: str, document: Any, etag: Any, generation: Any) -> Stored:
        self._seen[name] = stored = _stored(name, document, etag, generation)
        return stored


def _shown(command: Command) -> dict[str, str]:
    """What goes with a command and is no part of the request."""
    assert len(command.evidence) <= 1, "one change here tells of one worker"
    return {} if not command.evidence else {health.HEADER: command.evidence[0]}


class RemoteFiles:
    """The files beside the document of one environment."""

    def __init__(self, transport: Transport, environment_id: str) -> None:
        self._transport = transport
        self._environment_id = environment_id

    def read(self, path: str) -> bytes | None:
        """The content of a file, None when there is none."""
        segments = path.split("/")
        try:
            return self._transport.content(joined(ENVIRONMENTS, self._environment_id, "files", *segments))
        except NoSuchPath:
            return self._trusted() if path == trust_file.FILE else None
        except NotFound as error:
            if "path" in error.details:
                return None
            raise

    def _trusted(self) -> bytes | None:
        """The trust root as a server tells it that shows no files."""
        value = self._transport.read(joined(ENVIRONMENTS, self._environment_id, "trust-root")).value
        keys = value.get("keys") if isinstance(value, dict) else None
        if not keys:
            return None
        return canonical_json({"schema": "greentic.trust-root.v1", "keys": keys})

    def names(self, under: str) -> tuple[str, ...]:
        """The paths of all files below the folder `under`, in order."""
        where = joined(ENVIRONMENTS, self._environment_id, "files")
        value = self._transport.read(f"{where}?under={joined(*under.split('/'))}").value
        if not isinstance(value, dict) or not isinstance(value.get("files"), list):
            raise _unintelligible("a list of files")
        return tuple(map(str, value["files"]))


class _Nowhere:
    """The files beside a document, for effects on this machine: they are the server's."""

    def read(self, path: str) -> bytes | None:
        """Never."""
        raise NotImplementedYet(f"'{path}' is kept by the store server")

    def names(self, under: str) -> tuple[str, ...]:
        """Never."""
        raise NotImplementedYet(f"'{under}' is kept by the store server")

    def write(self, path: str, data: bytes) -> None:  # noqa: ARG002
        """Never."""
        raise NotImplementedYet(f"'{path}' is kept by the store server")

    def remove(self, path: str) -> None:
        """Never."""
        raise NotImplementedYet(f"'{path}' is kept by the store server")


def _success(answer: Answer, command: Command) -> bool:
    """Whether it was a repetition; a success that does not carry its own evidence is none (reference 02, 7.4)."""
    value, key = answer.value, command.idempotency_key
    if not isinstance(value, dict):
        raise unsure("the server reported success in words of another kind", key)
    audit = value.get("audit")
    problem = None
    if not isinstance(value.get("etag"), str):
        problem = "without an etag"
    elif not isinstance(audit, dict):
        problem = "without an audit entry"
    elif audit.get("env_id") != command.environment_id:
        problem = "with the audit entry of another environment"
    elif audit.get("idempotency_key") != key:
        problem = "with the audit entry of another request"
    elif (audit.get("authorization") or {}).get("decision") != "allow":
        problem = "with an audit entry that denies it"
    elif (audit.get("result") or {}).get("outcome") != "ok":
        problem = "with an audit entry that says it failed"
    if problem is not None:
        raise unsure(f"the server reported success {problem}", key)
    return bool((value.get("idempotency") or {}).get("idempotency") == "replayed")


def _stored(name: str, document: Any, etag: Any, generation: Any) -> Stored:
    if not isinstance(etag, str) or not isinstance(generation, int):
        raise _unintelligible("an environment")
    environment = parse(Environment, document, f"the environment '{name}' of the store server")
    if environment.environment_id != name:
        raise StoreError(f"the store server sent '{environment.environment_id}' for '{name}'")
    return Stored(environment, generation, etag)


def _unintelligible(what: str) -> StoreError:
    return StoreError(f"the store server answered with something that is not {what}")
