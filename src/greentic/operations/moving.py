"""`gtc store import`: environments from a folder into a database, back, or from one database into another.

Everything is looked at before anything is written: a target that holds an environment of its own is refused. Each
environment comes by one commit, so a move that was interrupted is finished by running it again; one that is there
already, entry by entry of its audit log, is passed over. The source is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greentic.engine.command import Command
from greentic.operations.backup_signing import OperatorNotary
from greentic.operations.heads import sealing
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.store import deciding, events, moving
from greentic.store.clock import wall_clock
from greentic.store.files import FilesStore
from greentic.store.moving import Whole
from greentic.store.sql.moving import MovePayload, bring, take
from greentic.store.sql.store import SqlStore, open_store

Place = FilesStore | SqlStore


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be moved: `names` (none: all), by whom; `dry_run` says only what would happen."""

    names: tuple[str, ...]
    actor: str
    dry_run: bool
    progress: Callable[[str], None]


def is_folder(place: str) -> bool:
    """Whether a place is a folder of environments: one that is there, or a name that ends with a slash."""
    return place.endswith("/") or Path(place).is_dir()


def move(source: str, target: str, wish: Wish) -> dict[str, Any]:
    """Move environments; what was moved, what was there already, and what stays on the machine of the source.

    NotFound for a source or a name that is none; Conflict for a target with environments that are not those of the
    source; CorruptDocument for an environment that cannot be trusted: nothing was written then.
    """
    if source == target:
        raise InvalidArgument("source and target are the same place")
    if is_folder(source) and not Path(source).is_dir():
        raise NotFound(f"there is no folder {source}")
    if not is_folder(source) and "://" not in source and not Path(source).exists():
        raise NotFound(f"there is no database {source}")
    with _opened(source) as here:
        names = here.names()
        for name in wish.names:
            if name not in names:
                raise NotFound(f"there is no environment '{name}' at the source", details={"environment_id": name})
        chosen = wish.names or names
        if wish.dry_run and not _there(target):
            return _told(source, here, [_read(here, name, recover=False) for name in chosen], [], dry_run=True)
        with _opened(target) as there:
            return _move(source, here, there, chosen, wish)


def _move(source: str, here: Place, there: Place, chosen: Sequence[str], wish: Wish) -> dict[str, Any]:
    foreign = [name for name in there.names() if name not in chosen]
    if foreign:
        raise Conflict(
            f"the target holds other environments already: {', '.join(foreign[:5])}",
            details={"environments": foreign[:100]},
            next_step="name an empty target; or carry one environment over by a backup: gtc op backup create ENV",
        )
    present = there.names()
    coming: list[str] = []
    known: list[str] = []
    for name in chosen:
        if name in present:
            _refuse_other(here, there, name)
            known.append(name)
            continue
        _read(here, name, recover=False)  # what cannot be read is found before anything is written
        coming.append(name)
    moved = []
    for name in coming:
        whole = _read(here, name, recover=not wish.dry_run)
        if not wish.dry_run:
            _write(there, whole, wish.actor)
            stored = there.load(name)
            assert (stored.generation, stored.etag) == (whole.stored.generation, whole.stored.etag), "it was written"
            wish.progress(f"{name}: generation {stored.generation}, {len(whole.log)} audit entries")
        moved.append(whole)
    return _told(source, here, moved, known, dry_run=wish.dry_run)


def _told(source: str, here: Place, moved: Sequence[Whole], known: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
    stays = {}
    if isinstance(here, FilesStore):
        stays = {one.environment_id: list(moving.local_part(here.artifacts(one.environment_id))) for one in moved}
    return {
        "from": source if isinstance(here, FilesStore) else here.database.place,
        "moved": [one.counts() for one in moved],
        "present": list(known),
        "stays": {name: found for name, found in stays.items() if found},
        "dry_run": dry_run,
    }


def _refuse_other(here: Place, there: Place, name: str) -> None:
    """Conflict unless the target's environment came from the source as it is now: it holds its newest audit entry."""
    newest = here.audit(name).heads(1)
    same = there.load(name).etag == here.load(name).etag and (
        not newest or any(entry.hash == newest[0].hash for entry in there.audit(name).heads(64))
    )
    if not same:
        raise Conflict(
            f"the environment '{name}' is at the target already, and is not the one of the source",
            details={"environment_id": name},
            next_step="name an empty target",
        )


def _read(here: Place, name: str, *, recover: bool) -> Whole:
    return moving.read(here, name, recover=recover) if isinstance(here, FilesStore) else take(here, name)


def _write(there: Place, whole: Whole, actor: str) -> None:
    stored = whole.stored
    payload = MovePayload(generation=stored.generation, etag=stored.etag, audit_entries=len(whole.log))
    key = f"store-import:{stored.etag}:{stored.generation}"
    command = Command(whole.environment_id, "store", "import", payload, key, actor)
    if isinstance(there, SqlStore):
        bring(there, whole, command)
        return
    attempt = deciding.attempt(command, wall_clock(), deciding.local_only)
    closing = events.outcome(attempt, stored.generation, events.event_id, new=None, error=None, result=None)
    moving.write(there, whole, closing)


def _there(place: str) -> bool:
    return "://" in place or Path(place).exists()


@contextmanager
def _opened(place: str) -> Iterator[Place]:
    if is_folder(place):
        yield FilesStore(Path(place), seal=sealing())
        return
    opened = open_store(place, seal=sealing(), notary=OperatorNotary())
    try:
        yield opened
    finally:
        opened.close()
