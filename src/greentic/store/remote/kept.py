"""The audit log and the backups of an environment on a store server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from pydantic_core import from_json

from greentic.spec.backup import BackupArtifact, BackupManifest
from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, NotFound, StoreError
from greentic.spec.parsing import parse
from greentic.store.chain import Entry
from greentic.store.contract import Applied, Backup, Request, Stored
from greentic.store.preconditions import Precondition, meet
from greentic.store.remote.transport import Transport, joined
from greentic.store.verification import AuditReport, Head, verify

PAGE = 500
NEW = "new"
"""In place of the name that a backup would be given."""
ENVIRONMENTS = "environments"


class RemoteTrail:
    """An audit log, read in pages; what it holds is checked here and not by the server."""

    def __init__(self, transport: Transport, environment_id: str) -> None:
        self._transport = transport
        self._where = joined(ENVIRONMENTS, environment_id, "audit")

    def tail(self, count: int) -> tuple[Mapping[str, Any], ...]:
        """The newest `count` entries, oldest first."""
        return self._page(f"tail={min(count, 1_000)}")

    def heads(self, count: int) -> tuple[Entry, ...]:
        """The newest `count` entries with their place in the chain, oldest first."""
        return tuple(Entry(event) for event in self.tail(count))

    def events(self, since_sequence: int = 0) -> Iterator[Mapping[str, Any]]:
        """The entries after number `since_sequence`, oldest first."""
        while page := self._page(f"after={since_sequence}&limit={PAGE}"):
            yield from page
            since_sequence = page[-1]["sequence"]

    def export(self, target: BinaryIO, since_sequence: int = 0) -> int:
        """Write the entries after number `since_sequence` as lines that `verification.verify` accepts; how many."""
        count = 0
        for event in self.events(since_sequence):
            target.write(Entry(event).line())
            count += 1
        return count

    def verify(self, anchor: Head | None = None) -> AuditReport:
        """Fetch the whole log and check it here."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "audit.jsonl"
            with path.open("wb") as file:
                self.export(file)
            return verify(path, anchor=anchor)

    def _page(self, query: str) -> tuple[Mapping[str, Any], ...]:
        value = self._transport.read(f"{self._where}?{query}").value
        events = value.get("events") if isinstance(value, dict) else None
        if not isinstance(events, list) or not all(isinstance(one, dict) and "sequence" in one for one in events):
            raise StoreError("the store server answered with something that is not an audit log")
        return tuple(events)


class RemoteBackups:
    """The backups that the server keeps. `load` and `changed` are those of the store that this belongs to."""

    def __init__(
        self, transport: Transport, load: Callable[[str], Stored], changed: Callable[[str, Mapping[str, Any]], Applied]
    ) -> None:
        self._transport, self._load, self._changed = transport, load, changed

    def list(self, environment_id: str) -> tuple[Backup, ...]:
        """Those that somebody asked for, oldest first."""
        value = self._transport.read(joined(ENVIRONMENTS, environment_id, "backups")).value
        found = value.get("backups") if isinstance(value, dict) else None
        if not isinstance(found, list):
            raise StoreError("the store server answered with something that is not a list of backups")
        manifests = [parse(BackupManifest, one, "a backup of the store server") for one in found]
        return tuple(
            Backup(
                one.backup_id,
                datetime.fromisoformat(one.created_at),
                one.generation,
                "kept",
                one.size_bytes,
                one.integrity.digest,
            )
            for one in manifests
        )

    def create(
        self,
        environment_id: str,
        *,
        idempotency_key: str,
        actor: str,  # noqa: ARG002 - the server knows who asks
        dry_run: bool = False,
        request: Request | None = None,  # noqa: ARG002
    ) -> Applied:
        """Keep the present state."""
        if dry_run:
            present = self._load(environment_id)
            return Applied({"backup": NEW}, present.environment, present.generation, present.etag)
        where = joined(ENVIRONMENTS, environment_id, "backups")
        answer = self._transport.change("POST", where, None, idempotency_key, {})
        applied = self._changed(environment_id, answer.value)
        return _with(applied, {"backup": applied.result.get("backup_id")})

    def restore(
        self,
        environment_id: str,
        name: str | None = None,
        *,
        idempotency_key: str,
        actor: str,  # noqa: ARG002
        expected_generation: int | None = None,
        if_match: str | None = None,
        dry_run: bool = False,
        request: Request | None = None,  # noqa: ARG002
    ) -> Applied:
        """Make a backup the present state; None: the newest that differs from it."""
        found = self.list(environment_id)
        present = self._present(environment_id)
        if name is None:
            name = next((one.name for one in reversed(found) if present is None or one.etag != present.etag), None)
        if name is None:
            raise NotFound(f"the environment '{environment_id}' has no other backup", details={"backups": len(found)})
        if dry_run:
            return self._rehearsed(environment_id, name, present, expected_generation, if_match)
        body: dict[str, Any] = {"backup_id": name}
        if present is None:
            # Nobody can name the state that is replaced; the server sees for itself that it cannot be trusted.
            body |= {"precondition": {"expected_generation": expected_generation or 0}, "over_damage": True}
        else:
            pin = present.generation if expected_generation is None else expected_generation
            body["precondition"] = {"if_match": if_match or present.etag, "expected_generation": pin}
        where = joined(ENVIRONMENTS, environment_id, "restore")
        applied = self._changed(environment_id, self._transport.change("POST", where, body, idempotency_key, {}).value)
        generation = next((one.generation for one in found if one.name == name), None)
        return _with(applied, {"backup": name, "restored_generation": generation})

    def _rehearsed(
        self, environment_id: str, name: str, present: Stored | None, generation: int | None, if_match: str | None
    ) -> Applied:
        """What restoring the backup would come to: it is fetched whole and checked here, and nothing is changed."""
        meet(Precondition(generation, if_match), present)
        where = joined(ENVIRONMENTS, environment_id, "backups", name, "export")
        carried = parse(BackupArtifact, from_json(self._transport.content(where)), "the backup of the store server")
        content = carried.snapshot.get("environment")
        if not carried.intact() or not carried.manifest.integrity.matches(content):
            raise CorruptDocument(f"the backup '{name}' of '{environment_id}' is not what was kept")
        environment = parse(Environment, content, "the document of the backup")
        told = {"backup": name, "restored_generation": carried.manifest.generation}
        after = carried.manifest.generation if present is None else present.generation
        return Applied(told, environment, after + 1, carried.manifest.integrity.digest)

    def _present(self, environment_id: str) -> Stored | None:
        """The present state, None when it cannot be trusted."""
        try:
            return self._load(environment_id)
        except CorruptDocument:
            return None


def _backup(one: BackupManifest) -> Backup:
    made = datetime.fromisoformat(one.created_at)
    return Backup(one.backup_id, made, one.generation, "kept", one.size_bytes, one.integrity.digest)


def _with(applied: Applied, result: Mapping[str, Any]) -> Applied:
    return Applied(result, applied.environment, applied.generation, applied.etag, applied.replayed)
