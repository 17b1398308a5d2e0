"""Backups of environments in a database: taken, listed, restored, removed, carried elsewhere and brought back.

A backup is verified before it is taken: the document is read anew from its rows, and so is every file. It is kept apart
from them, so that what spoils the rows does not spoil it, and signed when somebody is there to sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from greentic.engine import policies
from greentic.engine.command import Command, Outcome
from greentic.spec import rules
from greentic.spec.backup import BackupArtifact
from greentic.spec.environment import Environment
from greentic.spec.errors import AlreadyExists, Conflict, CorruptDocument, GreenticError, InvalidArgument, NotFound
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import Payload
from greentic.store import remains, trust_file
from greentic.store.clock import moment, timestamp
from greentic.store.contract import Applied, Backup, Completed, Files, Origin, Request, Stored
from greentic.store.deciding import missing
from greentic.store.preconditions import Precondition
from greentic.store.restoring import CreatePayload, RestorePayload
from greentic.store.sql import artifact, rows
from greentic.store.sql.artifact import Content
from greentic.store.sql.database import blob
from greentic.store.sql.store import SqlStore
from greentic.store.sql.view import View, ViewFiles

MOST = 256
"""Backups of an environment that somebody asked for (reference 02, section 2.2)."""
_LOOKED_AT = 16
"""Past generations that are tried when no backup is named."""
_COLUMNS = "name, created_at, generation, origin, etag, size"
_UNBOUND = Precondition(None, None)
_NEVER_BACK = frozenset({trust_file.FILE, "policy.json", "update-channel.json"})
"""What says whom to trust: no backup brings an older one back."""


class DeletePayload(Payload):
    """Remove the backup of that name."""

    backup: str


class ImportPayload(Payload):
    """Make the environment of an artifact, of which this is the digest."""

    snapshot_digest: str


class AcceptPayload(Payload):
    """Make the document with this etag the present one."""

    etag: str


class Notary(Protocol):
    """Who vouches for backups, and knows whom to believe."""

    def sign(self, environment: Environment, name: str, digest: str, now: str) -> bytes | None:
        """A signature under the digest of a backup; None when nobody can sign here."""
        ...

    def vouches(self, signature: bytes, environment_id: str, name: str, digest: str) -> bool:
        """Whether we ourselves made the signature, for exactly this backup."""
        ...

    def check(self, signature: bytes, environment: Environment, name: str, digest: str) -> None:
        """A GreenticError when the signature is of no key that is, or was, trusted by `environment`."""
        ...


class Nobody:
    """A notary where nobody signs, and a signature is not asked for."""

    def sign(self, environment: Environment, name: str, digest: str, now: str) -> bytes | None:  # noqa: ARG002
        """No signature."""
        return None

    def vouches(self, signature: bytes, environment_id: str, name: str, digest: str) -> bool:  # noqa: ARG002
        """Nobody does."""
        return False

    def check(self, signature: bytes, environment: Environment, name: str, digest: str) -> None:
        """Nothing is known."""


class SqlBackups:
    """The backups of the environments in `store`; see `contract.Backups`."""

    def __init__(self, store: SqlStore, notary: Notary | None = None) -> None:
        self._store = store
        self._notary = notary or Nobody()

    def list(self, environment_id: str) -> tuple[Backup, ...]:
        """Oldest first; NotFound when there is no such environment."""
        with self._store.viewing(environment_id) as view:
            if not view.exists:
                raise missing(environment_id)
            found = view.query(f"SELECT {_COLUMNS} FROM backups WHERE env_id = ? ORDER BY name", environment_id)  # noqa: S608
        return tuple(_backup(row) for row in found)

    def manifest(self, environment_id: str, name: str) -> dict[str, Any]:
        """The `greentic.backup-manifest.v1` of a backup; NotFound."""
        with self._store.viewing(environment_id) as view:
            return _manifest(view, name)

    def create(
        self,
        environment_id: str,
        *,
        idempotency_key: str,
        actor: str,
        dry_run: bool = False,
        request: Request | None = None,
    ) -> Applied:
        """Keep the present state; `result` is `{"backup": name, "manifest": its manifest}`."""
        command = Command(environment_id, "backup", "create", CreatePayload(), idempotency_key, actor)
        attempt = self._store.attempt(command, request)
        name = self._store.surroundings.mint(attempt.moment)

        def taken(view: View) -> dict[str, Any]:
            present = view.verified()
            kept = view.query("SELECT COUNT(*) FROM backups WHERE env_id = ? AND origin = ?", environment_id, "kept")
            if kept[0][0] >= MOST:
                raise Conflict(
                    f"the environment '{environment_id}' has {MOST} backups already",
                    details={"backups": kept[0][0]},
                    next_step="remove one of them, or carry it elsewhere first",
                )
            beside = {path: data for path in view.all_files() if (data := view.read_file(path)) is not None}
            content = Content(rows.text(present), beside, view.sequence, view.hash)
            data = content.packed()
            size = len(content.document) + sum(map(len, beside.values()))
            digest, now = hashlib.sha256(data).hexdigest(), timestamp(self._store.clock())
            stored = present.stored
            signature = self._notary.sign(stored.environment, name, content.digest(), now)
            told = {"created_at": now, "generation": stored.generation, "etag": stored.etag, "size": size}
            if not dry_run:
                view.later(
                    "INSERT INTO backups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    *(environment_id, name, now, stored.generation, "kept", stored.etag, size, digest, data, signature),
                )
            return {"backup": name, "manifest": artifact.manifest(environment_id, name, told)}

        if dry_run:
            with self._store.viewing(environment_id) as view:
                return _unchanged(view, taken(view))
        return self._store.settled(
            command, lambda view: view.perform(self._store.dated(attempt), lambda _files: taken(view), _UNBOUND)
        )

    def delete(
        self, environment_id: str, name: str, *, idempotency_key: str, actor: str, request: Request | None = None
    ) -> Applied:
        """Remove a backup; NotFound when there is none of that name."""
        command = Command(environment_id, "backup", "delete", DeletePayload(backup=name), idempotency_key, actor)
        attempt = self._store.attempt(command, request)

        def removed(view: View) -> dict[str, Any]:
            _row(view, name)
            view.later("DELETE FROM backups WHERE env_id = ? AND name = ?", environment_id, name)
            return {"backup": name, "deleted": True}

        return self._store.settled(
            command, lambda view: view.perform(self._store.dated(attempt), lambda _files: removed(view), _UNBOUND)
        )

    def restore(
        self,
        environment_id: str,
        name: str | None = None,
        *,
        idempotency_key: str,
        actor: str,
        expected_generation: int | None = None,
        if_match: str | None = None,
        dry_run: bool = False,
        request: Request | None = None,
    ) -> Applied:
        """Make a backup the present state; None: the newest that can be trusted and differs, of past generations too.

        `g117` names a past generation that is still kept. Files that the backup has and that are missing, or cannot be
        trusted, come back with it; none is replaced. What could not be trusted is put aside as a backup of its own.
        """
        payload = RestorePayload(backup=name)
        command = Command(environment_id, "backup", "restore", payload, idempotency_key, actor)
        return self._replaced(
            command,
            lambda view, present: self._chosen(view, name, present),
            Precondition(expected_generation, if_match),
            dry_run=dry_run,
            request=request,
        )

    def accept(
        self,
        environment_id: str,
        document: Environment,
        *,
        idempotency_key: str,
        actor: str,
        request: Request | None = None,
    ) -> Applied:
        """Make a mended document the present state of an environment that cannot be trusted; Conflict for any other."""
        state = rows.change(document, None).state(document, 0)
        payload = AcceptPayload(etag=state.stored.etag)
        command = Command(environment_id, "backup", "accept", payload, idempotency_key, actor)
        rules.refuse(list(rules.violations(document)))

        def mended(view: View, _present: Environment | None) -> tuple[dict[str, Any], Content]:
            if view.damage is None:
                raise Conflict(
                    f"the environment '{environment_id}' is in order: a document is accepted only for one that is not",
                    next_step=f"gtc op env show {environment_id}",
                )
            return {"etag": state.stored.etag}, Content(rows.text(state), {})

        return self._replaced(command, mended, _UNBOUND, dry_run=False, request=request)

    def export(self, environment_id: str, name: str) -> Iterator[bytes]:
        """The `greentic.backup-artifact.v1` of a backup as a stream, verified; NotFound, CorruptDocument."""
        with self._store.viewing(environment_id) as view:
            told, content = _manifest(view, name), _content(view, name)
            signature = _row(view, name, "signature")[0]
        log = self._store.audit(environment_id).events()
        entries = (event for event in log if event["sequence"] <= content.sequence)
        signed = None if signature is None else blob(signature)
        return artifact.written(told, content, entries, signed)

    def import_(
        self,
        environment_id: str,
        carried: BackupArtifact,
        *,
        idempotency_key: str,
        actor: str,
        request: Request | None = None,
    ) -> Applied:
        """Make an environment of what an artifact carries; Conflict when there is one already.

        Its audit log goes on where that of the artifact ends. Entries of an artifact that we did not sign ourselves
        are marked as `imported`: who made it could write into them whatever he liked.
        """
        if carried.manifest.env_id != environment_id:
            raise InvalidArgument(
                f"the artifact is of the environment '{carried.manifest.env_id}', not of '{environment_id}'"
            )
        content, log = artifact.read(carried)
        environment = content.environment()
        signature = (carried.model_extra or {}).get("snapshot_signature")
        payload = ImportPayload(snapshot_digest=carried.snapshot_digest)
        command = Command(environment_id, "backup", "import", payload, idempotency_key, actor)
        attempt = self._store.attempt(command, request)
        vouched, name = False, carried.manifest.backup_id
        if signature is not None:
            signed = canonical_json(signature)
            self._notary.check(signed, environment, name, content.digest())
            vouched = self._notary.vouches(signed, environment_id, name, content.digest())
        intact = artifact.chained(log)
        if signature is not None and intact is None:
            raise CorruptDocument(  # its head was signed, and stands for all before it
                "the audit log of the artifact is not the one that was signed",
                details={"environment_id": environment_id, "backup": name},
                next_step="use another backup, or one that you know by its digest",
            )
        lines = intact if vouched and intact is not None else artifact.relinked(log)

        def brought(present: Environment | None, _command: Command, _now: str) -> Outcome:
            if present is not None:
                raise AlreadyExists(
                    f"there is an environment '{environment_id}' already",
                    details={"environment_id": environment_id},
                    next_step=f"gtc op backup list {environment_id}",
                )
            return Outcome(environment, {"imported_etag": carried.manifest.integrity.digest})

        def completed(_e: Environment | None, asked: Command, _now: str, _files: Files) -> Completed:
            return Completed(asked.payload, tuple(content.files.items()))

        def job(view: View) -> Any:
            if view.exists or not lines:
                return view.carry_out(self._store.dated(attempt), transition=brought, complete=completed)
            view.adopt([(number, line) for number, line, _ in lines], lines[-1][2])
            try:
                return view.carry_out(self._store.dated(attempt), transition=brought, complete=completed)
            except BaseException:
                view.disown()
                raise

        return self._store.settled(command, job)

    def _replaced(
        self,
        command: Command,
        choose: Callable[[View, Environment | None], tuple[dict[str, Any], Content]],
        expected: Precondition,
        *,
        dry_run: bool,
        request: Request | None,
    ) -> Applied:
        attempt = self._store.attempt(command, request)

        def job(view: View) -> Any:
            chosen: dict[str, Any] = {}

            def completed(present: Environment | None, asked: Command, _now: str, files: Files) -> Completed:
                if not view.exists:
                    raise missing(command.environment_id)
                chosen["result"], chosen["content"] = choose(view, present)
                return Completed(asked.payload, tuple(_missing_files(files, chosen["content"])))

            def replaced(present: Environment | None, _command: Command, _now: str) -> Outcome:
                before = _as_restored(chosen["content"].environment(), present, ViewFiles(view))
                return Outcome(before, chosen["result"], changed=before != present)

            do = view.rehearse if dry_run else view.carry_out
            return do(
                self._store.dated(attempt), transition=replaced, expected=expected, complete=completed, over_damage=True
            )

        if dry_run:
            with self._store.viewing(command.environment_id) as view:
                done: Applied = job(view).applied
                return done
        return self._store.settled(command, job)

    def _chosen(self, view: View, name: str | None, present: Environment | None) -> tuple[dict[str, Any], Content]:
        if name is not None and name[:1] == "g" and name[1:].isdecimal():
            found = _past(view, int(name[1:]))
            if found is None:
                raise _unknown(view.environment_id, name)
            return {"backup": name, "restored_generation": found.generation}, _whole(found)
        if name is not None:
            content = _content(view, name)
            self._proven(view, name, content)
            return {"backup": name, "restored_generation": _row(view, name, "generation")[0]}, content
        kept = view.query(
            "SELECT name, generation FROM backups WHERE env_id = ? AND origin = ?", view.environment_id, "kept"
        )
        for candidate in _newest_first(view.generation, kept):
            try:
                told, content = self._chosen(view, candidate, present)
            except (CorruptDocument, NotFound):
                continue
            if _as_restored(content.environment(), present, ViewFiles(view)) != present:
                return told, content
        raise NotFound(
            f"the environment '{view.environment_id}' has no other backup that can be trusted",
            details={"environment_id": view.environment_id, "backups": len(kept)},
        )

    def _proven(self, view: View, name: str, content: Content) -> None:
        signature = _row(view, name, "signature")[0]
        if signature is not None:
            self._notary.check(blob(signature), content.environment(), name, content.digest())


def _newest_first(present: int, kept: Sequence[tuple[Any, ...]]) -> Sequence[str]:
    """The names of what may be gone back to: past generations, not many, and backups, each (name, generation)."""
    past = range(max(present - _LOOKED_AT, 1), present)
    found = [(generation, 1, f"g{generation}") for generation in past]
    found += [(int(generation), 0, str(name)) for name, generation in kept]
    return [name for _, _, name in sorted(found, reverse=True)]


def _past(view: View, generation: int) -> Stored | None:
    etag = view.etag_of(generation)
    if etag is None:
        return None
    try:
        return view.at(generation, etag).stored
    except CorruptDocument:
        return None


def _whole(stored: Stored) -> Content:
    return Content(rows.text(rows.change(stored.environment, None).state(stored.environment, 0)), {})


def _as_restored(backup: Environment, present: Environment | None, files: Files) -> Environment:
    return policies.carried_over(backup, present or remains.of(files, backup))


def _missing_files(files: Files, content: Content) -> Iterator[tuple[str, bytes]]:
    for path, data in content.files.items():
        try:
            present = files.read(path)
        except GreenticError:
            present = None
        if present is None and path not in _NEVER_BACK:
            yield path, data


def _content(view: View, name: str) -> Content:
    """What a backup holds; CorruptDocument when it is not what was kept, NotFound when there is none."""
    data, digest, etag, origin = _row(view, name, "data, digest, etag, origin")
    content = None if hashlib.sha256(blob(data)).hexdigest() != digest else artifact.unpacked(blob(data))
    if origin == "damaged" or content is None or hashlib.sha256(content.document).hexdigest() != etag:
        why = "it holds what could not be trusted" if origin == "damaged" else "it is not what was kept"
        raise CorruptDocument(
            f"the backup '{name}' of '{view.environment_id}' cannot be used: {why}",
            details={"environment_id": view.environment_id, "backup": name},
            next_step=f"gtc op backup list {view.environment_id}",
        )
    return content


def _row(view: View, name: str, columns: str = _COLUMNS) -> tuple[Any, ...]:
    found = view.query(
        f"SELECT {columns} FROM backups WHERE env_id = ? AND name = ?",  # noqa: S608
        view.environment_id,
        name,
    )
    if not view.exists:
        raise missing(view.environment_id)
    if not found:
        raise _unknown(view.environment_id, name)
    return found[0]


def _manifest(view: View, name: str) -> dict[str, Any]:
    _, created, generation, _, etag, size = _row(view, name)
    told: Mapping[str, Any] = {"created_at": created, "generation": generation, "etag": etag, "size": size}
    return artifact.manifest(view.environment_id, name, told)


def _backup(row: tuple[Any, ...]) -> Backup:
    name, created, generation, origin, etag, size = row
    why: Origin = origin
    return Backup(name, moment(created), generation, why, size, etag)


def _unchanged(view: View, result: Mapping[str, Any]) -> Applied:
    assert view.state is not None, "it was verified"
    stored = view.state.stored
    return Applied(result, stored.environment, stored.generation, stored.etag)


def _unknown(environment_id: str, name: str) -> NotFound:
    return NotFound(
        f"there is no backup '{name}'",
        details={"environment_id": environment_id, "backup": name},
        next_step=f"gtc op backup list {environment_id}",
    )
