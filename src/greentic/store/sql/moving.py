"""Environments on their way into a database, and out of it; what moves is said in `store.moving`.

One transaction brings an environment with all that is recorded of it. Its generation, its audit chain and the keys that
were used go on where they were: whoever watched it elsewhere sees one more audit entry and no other difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from greentic.engine.command import Command
from greentic.spec.errors import AlreadyExists, Conflict, CorruptDocument, GreenticError
from greentic.spec.parsing import Payload
from greentic.store.chain import Entry
from greentic.store.clock import moment, timestamp
from greentic.store.contract import Applied
from greentic.store.moving import OldState, Whole
from greentic.store.preconditions import Precondition
from greentic.store.sql import rows
from greentic.store.sql.artifact import Content, unpacked
from greentic.store.sql.backups import MOST
from greentic.store.sql.database import blob
from greentic.store.sql.store import SqlStore
from greentic.store.sql.view import View


class MovePayload(Payload):
    """An environment comes with all that is recorded of it, as it was at this generation with this etag."""

    generation: int
    etag: str
    audit_entries: int


def bring(store: SqlStore, whole: Whole, command: Command) -> Applied:
    """Make the environment in `whole` one of `store`, all of it or nothing; AlreadyExists when there is one."""
    attempt = store.attempt(command, None)

    def job(view: View) -> Any:
        if view.exists:
            raise AlreadyExists(f"there is an environment '{whole.environment_id}' already")
        stored = whole.stored
        change = rows.change(stored.environment, None)
        state = change.state(stored.environment, stored.generation)
        if state.stored.etag != stored.etag:
            raise CorruptDocument(f"the document of '{whole.environment_id}' does not have the etag that it had")
        view.settle_in(state, change.rows, whole.log, whole.files, _records(whole), attempt.now)
        try:
            for old in _bounded(whole):
                _keep(store, view, old)
            return view.perform(store.dated(attempt), lambda _files: whole.counts(), Precondition(None, None))
        except BaseException:
            view.move_out()
            raise

    return store.settled(command, job)


def take(store: SqlStore, environment_id: str) -> Whole:
    """The environment with all that is recorded of it, as it stands in one transaction; NotFound, CorruptDocument."""
    with store.viewing(environment_id) as view:
        stored = view.verified().stored
        files = {path: data for path in view.all_files() if (data := view.read_file(path)) is not None}
        found = view.query("SELECT line FROM audit WHERE env_id = ? ORDER BY sequence", environment_id)
        log = tuple(Entry(json.loads(blob(line))) for (line,) in found)
        keys = view.query(
            "SELECT key, fingerprint, generation, stored_at, record FROM ledger WHERE env_id = ? ORDER BY sequence",
            environment_id,
        )
        old, skipped = [], []
        for name, created_at, generation, origin, data in view.query(
            "SELECT name, created_at, generation, origin, data FROM backups WHERE env_id = ? ORDER BY name",
            environment_id,
        ):
            try:
                if origin == "damaged":
                    raise CorruptDocument("it holds what could not be trusted")
                old.append(OldState(moment(created_at), generation, origin, unpacked(blob(data)).environment()))
            except GreenticError:
                skipped.append(str(name))
    report = store.verify_audit(environment_id)
    if report.finding is not None:
        raise CorruptDocument(f"the audit log of '{environment_id}' cannot be trusted: {report.finding.reason}")
    return Whole(stored, log, files, tuple(map(_record, keys)), tuple(old), tuple(skipped))


def _bounded(whole: Whole) -> tuple[OldState, ...]:
    """The backups that a database keeps: of those that somebody asked for, the newest."""
    kept = [old for old in whole.backups if old.origin == "kept"][-MOST:]
    return tuple(old for old in whole.backups if old.origin != "kept" or old in kept)


def _keep(store: SqlStore, view: View, old: OldState) -> None:
    state = rows.change(old.environment, None).state(old.environment, old.generation)
    content = Content(rows.text(state), {})
    data = content.packed()
    view.later(
        "INSERT INTO backups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(view.environment_id, store.surroundings.mint(old.created_at), timestamp(old.created_at), old.generation),
        *(old.origin, state.stored.etag, len(content.document), hashlib.sha256(data).hexdigest(), data, None),
    )


def _records(whole: Whole) -> list[tuple[bytes, str, int, str, int, str, bytes]]:
    """The keys as rows, in their order; of past generations no document is kept, so they name no etag."""
    first = (whole.log[-1].sequence if whole.log else 0) - len(whole.ledger) + 1
    found = []
    for place, one in enumerate(whole.ledger):
        told = {name: one[name] for name in ("result", "failure") if name in one}
        etag = whole.stored.etag if one["generation"] == whole.stored.generation else ""
        key = str(one["key"]).encode("utf-8", "surrogatepass")
        found.append((key, one["fingerprint"], one["generation"], etag, first + place, one["stored_at"], to_json(told)))
    return found


def _record(row: tuple[Any, ...]) -> Mapping[str, Any]:
    """A row of a key as a folder's ledger has it. An answer that leans on rows of the database is not taken along: its
    request is known to have been carried out, and is refused with that."""
    key, fingerprint, generation, stored_at, record = row
    told = json.loads(blob(record))
    if "environment" in told:
        gone = Conflict(
            f"the request was carried out and left generation {generation}, but its answer stayed where it was given",
            details={"reason": "answer-gone", "generation": generation},
            next_step="gtc op env show",
        )
        told = {"result": {}, "failure": gone.document()}
    name = blob(key).decode("utf-8", "surrogatepass")
    return {"key": name, "fingerprint": fingerprint, "generation": generation, "stored_at": stored_at, **told}
