"""Backups of an environment's document: list, create, restore, prune."""

from __future__ import annotations

from typing import Any

from greentic.operations.context import Context
from greentic.operations.following import follow
from greentic.operations.kept import files, kept
from greentic.store.backup import Rule
from greentic.store.contract import Backup
from greentic.store.files import FilesStore
from greentic.store.restoring import FolderBackups


def list_(context: Context, environment_id: str) -> dict[str, Any]:
    """Every backup, oldest first."""
    found = kept(context).backups().list(environment_id)
    return {"environment_id": environment_id, "backups": [_document(backup) for backup in found]}


def create(context: Context, environment_id: str) -> dict[str, Any]:
    """Keep the present state until somebody removes it."""
    applied = (
        kept(context)
        .backups()
        .create(environment_id, idempotency_key=context.step_key(""), actor=context.actor, dry_run=context.dry_run)
    )
    return {"environment_id": environment_id, "backup": applied.result["backup"]}


async def restore(context: Context, environment_id: str, name: str | None) -> dict[str, Any]:
    """Make a backup the present state (None: the newest trustworthy one); a running data plane follows."""
    applied = (
        kept(context)
        .backups()
        .restore(
            environment_id,
            name,
            idempotency_key=context.step_key(""),
            actor=context.actor,
            expected_generation=context.expected_generation,
            dry_run=context.dry_run,
        )
    )
    await follow(context, applied)
    return {
        "environment_id": environment_id,
        "backup": applied.result["backup"],
        "restored_generation": applied.result["restored_generation"],
        "generation": applied.generation,
    }


def prune(context: Context, environment_id: str, last: int, days: int) -> dict[str, Any]:
    """Remove the backups of changes beyond the newest `last` and the newest of each of `days` days.

    A store server keeps past generations instead, for as long as it keeps keys: nothing is to be removed there, and
    `note` says so.
    """
    if not isinstance(context.store, FilesStore):
        context.store.load(environment_id)
        note = "a store server makes no backup of each change and forgets past generations by itself; yours stay"
        return {"environment_id": environment_id, "removed": [], "note": note}
    removed = FolderBackups(files(context)).prune(
        environment_id,
        Rule(last, days),
        idempotency_key=context.step_key(""),
        actor=context.actor,
        dry_run=context.dry_run,
    )
    return {"environment_id": environment_id, "removed": list(removed)}


def _document(backup: Backup) -> dict[str, Any]:
    return {
        "name": backup.name,
        "created_at": backup.created_at.isoformat().replace("+00:00", "Z"),
        "generation": backup.generation,
        "origin": backup.origin,
        "size_bytes": backup.size,
    }
