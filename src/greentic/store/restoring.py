"""Backups as an operator uses them: list, create, restore, prune. Every change goes through the store, audited."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from greentic.engine import policies
from greentic.engine.command import Command, Outcome
from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, NotFound
from greentic.spec.parsing import Payload
from greentic.store import backup, document, folders, remains
from greentic.store.backup import Rule
from greentic.store.beside import FolderFiles
from greentic.store.contract import Applied, Backup, Request
from greentic.store.document import Record
from greentic.store.files import FilesStore
from greentic.store.preconditions import Precondition
from greentic.store.transaction import Turn

_NOTHING = Precondition(None, None)


class CreatePayload(Payload):
    """Keep the present document under a name that no rule removes."""


class RestorePayload(Payload):
    """Go back to the backup of that name; None: the newest one that can be trusted."""

    backup: str | None = None


class PrunePayload(Payload):
    """Remove backups beyond the newest `last` and the newest of each of the past `days` days."""

    last: int
    days: int


class FolderBackups:
    """The backups of the environments in `store`; see `contract.Backups`."""

    def __init__(self, store: FilesStore) -> None:
        self._store = store

    def list(self, environment_id: str) -> tuple[Backup, ...]:
        """Oldest first; NotFound when there is no such environment."""
        folder = self._store.artifacts(environment_id)
        if not folders.exists(folder):
            raise NotFound(f"there is no environment '{environment_id}'", details={"environment_id": environment_id})
        return backup.kept(folder)

    def create(
        self,
        environment_id: str,
        *,
        idempotency_key: str,
        actor: str,
        dry_run: bool = False,
        request: Request | None = None,
    ) -> Applied:
        """Keep the present state until somebody removes it; its name. The same key gives the same backup.

        `dry_run`: the name that it would have about now.
        """
        command = Command(environment_id, "backup", "create", CreatePayload(), idempotency_key, actor)
        if dry_run:
            present = self._store.would_maintain(command)
            name = backup.name_of(self._store.clock(), present.generation, "kept")
            return Applied({"backup": name}, present.environment, present.generation, present.etag)

        def copied(turn: Turn) -> dict[str, Any]:
            folder = self._store.artifacts(environment_id)
            name = backup.name_of(turn.moment, turn.generation or 0, "kept")
            folders.ensure(self._store.io, folder / folders.BACKUPS)
            backup.copy(self._store.io, folder, folder / folders.BACKUPS / name)
            return {"backup": name}

        return self._store.perform(command, copied, _NOTHING, request)

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
        """Make the backup `name` the present state; the generation grows.

        None: the newest that can be trusted and differs from the present state.

        What is never undone stays as it is (`engine.policies.carried_over`): whom the environment trusts, and its
        signed revenue policies.

        Works over a document that is corrupt or gone; a corrupt one is put aside as a backup of its own. The backup's
        digest is verified first: CorruptDocument when it does not match. `result` names the backup and its generation.
        `dry_run`: the same answer and nothing changed.
        """
        payload = RestorePayload(backup=name)
        command = Command(environment_id, "backup", "restore", payload, idempotency_key, actor)
        change = self._store.rehearse if dry_run else self._store.carry_out
        return change(
            command,
            self._restored,
            expected_generation=expected_generation,
            if_match=if_match,
            over_damage=True,
            request=request,
        )

    def prune(
        self, environment_id: str, rule: Rule, *, idempotency_key: str, actor: str, dry_run: bool = False
    ) -> tuple[str, ...]:
        """Remove what `rule` does not keep; the names of what was removed. Backups made by `create` stay.

        `dry_run`: the names of what would be removed.
        """
        payload = PrunePayload(**asdict(rule))
        command = Command(environment_id, "backup", "prune", payload, idempotency_key, actor)
        if dry_run:
            self._store.would_maintain(command)
            found = backup.kept(self._store.artifacts(environment_id))
            return tuple(one.name for one in backup.superfluous(found, rule, self._store.clock()))

        def pruned(turn: Turn) -> dict[str, Any]:
            folder = self._store.artifacts(environment_id)
            return {"removed": [gone.name for gone in backup.prune(self._store.io, folder, rule, turn.moment)]}

        return tuple(self._store.perform(command, pruned, _NOTHING).result["removed"])

    def _restored(self, environment: Environment | None, command: Command, _now: str) -> Outcome:
        assert isinstance(command.payload, RestorePayload)
        folder = self._store.artifacts(command.environment_id)
        name, record = _chosen(folder, command.payload.backup, self.list(command.environment_id), environment)
        restored = _as_restored(folder, record, environment)
        result = {"backup": name, "restored_generation": record.stored.generation}
        return Outcome(restored, result, changed=restored != environment)


def _chosen(
    folder: Path, name: str | None, backups: tuple[Backup, ...], present: Environment | None
) -> tuple[str, Record]:
    if name is not None:
        return name, _decoded(folder, name)
    for candidate in reversed(backups):
        if candidate.origin == "damaged":
            continue
        try:
            record = _decoded(folder, candidate.name)
        except CorruptDocument:
            continue
        if _as_restored(folder, record, present) != present:
            return candidate.name, record
    raise NotFound(
        f"the environment '{folder.name}' has no other backup that can be trusted",
        details={"environment_id": folder.name, "backups": len(backups)},
    )


def _as_restored(folder: Path, record: Record, present: Environment | None) -> Environment:
    backup = record.stored.environment
    return policies.carried_over(backup, present or remains.of(FolderFiles(folder), backup))


def _decoded(folder: Path, name: str) -> Record:
    path = folder / folders.BACKUPS / name
    try:
        return document.decode(backup.content(folder, name), path, folder.name)
    except CorruptDocument as error:
        error.next_step = f"gtc op backup list {folder.name}"
        raise
