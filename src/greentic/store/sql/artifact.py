"""A backup as it is carried elsewhere: `greentic.backup-artifact.v1` (reference 02, section 4.8), written as a stream.

Ours beside the reference's parts: `files` of the snapshot (what stands beside the document: signed policies, answers),
and `snapshot_signature` (DSSE over the snapshot's digest). The text is canonical JSON, so that the digest can be taken
while it is written, and memory does not grow with the audit log.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from greentic.spec.backup import BackupArtifact, BackupManifest, StateIntegrity
from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument
from greentic.spec.integrity import canonical_json, digest
from greentic.spec.parsing import parse
from greentic.store import chain
from greentic.store.chain import GENESIS, Entry
from greentic.store.verification import Walk


@dataclass(frozen=True, slots=True)
class Content:
    """What a backup holds: the document's canonical JSON, the files beside it, the newest audit entry's number and
    hash."""

    document: bytes
    files: Mapping[str, bytes]
    sequence: int = 0
    head: str = ""

    def environment(self) -> Environment:
        """The document, parsed; CorruptDocument when it is none."""
        return parse(Environment, from_json(self.document), "the document of the backup")

    def packed(self) -> bytes:
        """As it is kept."""
        files = {path: base64.b64encode(data).decode() for path, data in self.files.items()}
        head = canonical_json({"files": files, "sequence": self.sequence, "head": self.head})
        return zlib.compress(head + b"\n" + self.document, 3)

    def digest(self) -> str:
        """What a signature is about: hex SHA-256 over the digests of the document and of each file, and the head of the
        audit log, which stands for all of it."""
        files = {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}
        document = hashlib.sha256(self.document).hexdigest()
        return digest({"document": document, "files": files, "sequence": self.sequence, "head": self.head})


def unpacked(data: bytes) -> Content:
    """What `Content.packed` made; CorruptDocument for anything else."""
    try:
        head, _, document = zlib.decompress(data).partition(b"\n")
        told = from_json(head)
        files = {path: base64.b64decode(text, validate=True) for path, text in told["files"].items()}
        return Content(document, files, int(told["sequence"]), str(told["head"]))
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptDocument(f"the backup cannot be read: {error}") from None


def manifest(environment_id: str, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a kept backup: `row` has created_at, generation, etag and size."""
    return BackupManifest(
        backup_id=name,
        env_id=environment_id,
        created_at=row["created_at"],
        generation=row["generation"],
        integrity=StateIntegrity(digest=row["etag"]),
        size_bytes=row["size"],
    ).to_json()


def written(
    manifest: Mapping[str, Any], content: Content, entries: Iterator[Mapping[str, Any]], signature: bytes | None
) -> Iterator[bytes]:
    """The artifact, piece by piece; `entries` are those of the audit log up to the backup."""
    yield b'{"manifest":' + canonical_json(manifest) + b',"schema":"greentic.backup-artifact.v1","snapshot":'
    hashed = hashlib.sha256()
    for piece in _snapshot(content, entries):
        hashed.update(piece)
        yield piece
    yield b',"snapshot_digest":"' + hashed.hexdigest().encode() + b'"'
    if signature is not None:
        yield b',"snapshot_signature":' + canonical_json(from_json(signature))
    yield b"}"


def _snapshot(content: Content, entries: Iterator[Mapping[str, Any]]) -> Iterator[bytes]:
    opening = b'{"audit_log":['
    for event in entries:
        number, moment = event["sequence"], str(event["ts"])
        kept = {"id": number, "event_id": event["event_id"], "recorded_at": moment[:19].replace("T", " ")}
        yield opening + canonical_json({**kept, "event": event})
        opening = b","
    yield (b"]" if opening == b"," else opening + b"]") + b',"environment":'
    yield content.document
    yield b',"files":' + canonical_json({path: base64.b64encode(data).decode() for path, data in content.files.items()})
    answers = _answers(content)
    if answers:
        yield b',"pack_answers":' + canonical_json(answers)
    yield b"}"


def _answers(content: Content) -> dict[str, Any]:
    """The answers of bindings by slot, as the reference carries them."""
    found: dict[str, Any] = {}
    for binding in content.environment().packs:
        data = None if binding.answers_ref is None else content.files.get(binding.answers_ref)
        if data is not None:
            found[binding.slot.value] = from_json(data)
    return found


def read(artifact: BackupArtifact) -> tuple[Content, Sequence[Mapping[str, Any]]]:
    """What an artifact carries, ours or the reference's, and its audit entries; CorruptDocument when it does not hold.

    Nothing is said of who made it: see the signature.
    """
    snapshot = artifact.snapshot
    if not artifact.intact():
        raise CorruptDocument("the artifact was altered: its snapshot is not the one that its digest was taken of")
    if not isinstance(snapshot, dict) or not isinstance(snapshot.get("environment"), dict):
        raise CorruptDocument("the artifact holds no environment")
    document = canonical_json(snapshot["environment"])
    if not artifact.manifest.integrity.matches(snapshot["environment"]):
        raise CorruptDocument("the artifact's manifest is of another environment document than it holds")
    try:
        raw = snapshot.get("files") or {}
        files = {str(path): base64.b64decode(text, validate=True) for path, text in raw.items()}
        events = [row["event"] for row in snapshot.get("audit_log") or ()]
        if not all(isinstance(event, dict) for event in events):
            raise ValueError("an audit entry is not an object")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptDocument(f"the artifact cannot be read: {error}") from None
    last = events[-1] if events else {}
    content = Content(document, files, int(last.get("sequence", 0)), str(last.get("hash", "")))
    for slot, answers in (snapshot.get("pack_answers") or {}).items():
        for binding in content.environment().packs:
            if binding.slot.value == slot and binding.answers_ref is not None:
                files.setdefault(binding.answers_ref, canonical_json(answers) + b"\n")
    return content, events


def chained(events: Sequence[Mapping[str, Any]]) -> list[tuple[int, bytes, Entry]] | None:
    """(number, line, entry) of each event as it is; None when they form no chain."""
    walk, lines = Walk(None, None), []
    for event in events:
        line = Entry(event).line() if isinstance(event.get("hash"), str) else b""
        if not line or walk.take(line) is not None:
            return None
        lines.append((walk.sequence or 0, line, Entry(event)))
    return lines


def relinked(events: Sequence[Mapping[str, Any]]) -> list[tuple[int, bytes, Entry]]:
    """(number, line, entry) of each event, linked anew and marked as `imported`."""
    lines: list[tuple[int, bytes, Entry]] = []
    sequence, hash = 0, GENESIS
    for event in events:
        bare = {key: value for key, value in event.items() if key not in {"sequence", "previous_hash", "hash"}}
        entry, line = chain.linked_line({**bare, "imported": True}, sequence + 1, hash)
        lines.append((entry.sequence, line, entry))
        sequence, hash = entry.sequence, entry.hash
    return lines
