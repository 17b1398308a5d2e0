"""Backups: the document as it was before each change, kept by a rule, and the way back.

`<env>/backups/environment.json.<YYYYMMDDTHHMMSS.ffffffZ>.g<generation>.bak` is the file as it stood before the change
at that time, a second name of the same file (its content is never written again). One that somebody asked for ends in
`.kept.bak`; no rule removes it. A document that could not be trusted is put aside as `.damaged.bak`.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from greentic.spec.errors import NotFound
from greentic.store import folders
from greentic.store.contract import Backup, Origin
from greentic.store.io import FileSystem, read

_FORM = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"environment\.json\.(\d{8}T\d{6}\.\d{6}Z)\.g(\d+)(?:\.(kept|damaged))?\.bak")
_UNLINKABLE = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_TRIES = 1_024


@dataclass(frozen=True, slots=True)
class Rule:
    """Which backups of changes stay: the newest `last`, and the newest of each of the past `days` days."""

    last: int = 20
    days: int = 14


def kept(folder: Path) -> tuple[Backup, ...]:
    """The backups of the environment in `folder`, oldest first."""
    place = folder / folders.BACKUPS
    if not folders.exists(place):
        return ()
    found: list[Backup] = []
    with os.scandir(place) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is not None and entry.is_file(follow_symlinks=False):
                created = datetime.strptime(match[1], _FORM).replace(tzinfo=UTC)
                origin: Origin = "kept" if match[3] == "kept" else "damaged" if match[3] == "damaged" else "change"
                size = entry.stat(follow_symlinks=False).st_size
                found.append(Backup(entry.name, created, int(match[2]), origin, size))
    return tuple(sorted(found, key=lambda backup: (backup.created_at, backup.generation, backup.name)))


def keep(files: FileSystem, folder: Path, generation: int | None, moment: datetime, *, damaged: bool = False) -> None:
    """Keep the present document, if there is one, before it is replaced. OSError."""
    source = folder / folders.DOCUMENT
    if generation is None and not damaged:
        return
    folders.ensure(files, folder / folders.BACKUPS)
    origin: Origin = "damaged" if damaged else "change"
    for _ in range(_TRIES):
        target = folder / folders.BACKUPS / name_of(moment, generation or 0, origin)
        try:
            files.link(source, target)
        except FileExistsError:
            moment += timedelta(microseconds=1)  # the same clock reading twice: the names stay in order
        except OSError as error:
            if error.errno not in _UNLINKABLE:
                raise
            copy(files, folder, target)
            return
        else:
            return
    raise FileExistsError(errno.EEXIST, "no free name for a backup", str(folder / folders.BACKUPS))


def copy(files: FileSystem, folder: Path, target: Path) -> None:
    """A durable copy of the present document as `target`. OSError."""
    source = folder / folders.DOCUMENT
    data = read(source)
    if data is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
    folders.replace(files, folder, target, data)


def name_of(moment: datetime, generation: int, origin: Origin) -> str:
    """The file name of a backup."""
    suffix = "" if origin == "change" else f".{origin}"
    return f"{folders.DOCUMENT}.{moment.astimezone(UTC).strftime(_FORM)}.g{generation}{suffix}.bak"


def content(folder: Path, name: str) -> bytes:
    """The bytes of the backup `name`; NotFound when there is none."""
    data = read(folder / folders.BACKUPS / name) if _NAME.fullmatch(name) else None
    if data is None:
        raise NotFound(
            f"there is no backup '{name}'",
            details={"environment_id": folder.name, "backup": name},
            next_step=f"gtc op backup list {folder.name}",
        )
    return data


def superfluous(backups: tuple[Backup, ...], rule: Rule, now: datetime) -> tuple[Backup, ...]:
    """Those of `backups` (oldest first) that `rule` does not keep."""
    candidates = [backup for backup in backups if backup.origin != "kept"]
    stay = set(candidates[-rule.last :] if rule.last else ())
    earliest = (now - timedelta(days=rule.days)).date()
    newest_of_day = {backup.created_at.date(): backup for backup in candidates}  # the last one of a day wins
    stay.update(backup for day, backup in newest_of_day.items() if day > earliest)
    return tuple(backup for backup in candidates if backup not in stay)


def prune(files: FileSystem, folder: Path, rule: Rule, now: datetime) -> tuple[Backup, ...]:
    """Remove what `rule` does not keep; what was removed. The caller holds the environment's lock. OSError."""
    removed = superfluous(kept(folder), rule, now)
    for backup in removed:
        files.unlink(folder / folders.BACKUPS / backup.name)
    return removed
