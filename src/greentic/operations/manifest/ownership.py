"""Who declared what: `<env>/env-apply-ownership.json` (reference 04, section 11.4).

An owner is a manifest, known by the hash of its canonical path. Only what an owner declared before, and nobody else
claims, may be removed when it is no longer declared.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from greentic.spec.errors import CorruptDocument, InputOutput

FILE = "env-apply-ownership.json"
SCHEMA = "greentic.env-apply-ownership.v1"


@dataclass(frozen=True, slots=True)
class Claims:
    """What manifests declared.

    `deployments` are bundle@customer, `revisions` and `endpoints` ids and names, `packs` slots, `extensions`
    path[/instance].
    """

    deployments: frozenset[str] = frozenset()
    revisions: frozenset[str] = frozenset()
    packs: frozenset[str] = frozenset()
    extensions: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()

    def joined(self, other: Claims) -> Claims:
        """The claims of both."""
        return Claims(*(getattr(self, one.name) | getattr(other, one.name) for one in fields(self)))

    def document(self) -> dict[str, list[str]]:
        """The claims as JSON."""
        return {one.name: sorted(getattr(self, one.name)) for one in fields(self) if getattr(self, one.name)}


def owner_of(manifest: Path) -> str:
    """The owner key of a manifest: SHA-256 of its canonical path, in hex."""
    return hashlib.sha256(os.fsencode(manifest.resolve())).hexdigest()


def read(folder: Path, owner: str | None) -> tuple[Claims, Claims]:
    """(what `owner` claims, what all others claim). CorruptDocument when the file cannot be read as such."""
    mine, others = Claims(), Claims()
    for name, claims in _owners(folder).items():
        if name == owner:
            mine = _claims(folder, claims)
        else:
            others = others.joined(_claims(folder, claims))
    return mine, others


def write(folder: Path, owner: str, manifest: Path, claims: Claims) -> None:
    """Record what `owner` claims from now on, durably. InputOutput when that fails."""
    try:
        with _locked(folder):
            owners = _owners(folder)
            claimed = {"manifest": str(manifest.resolve()), **claims.document()}
            if owners.get(owner) == claimed:
                return
            owners[owner] = claimed
            document = {"schema": SCHEMA, "owners": owners}
            data = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
            draft = folder / f".{FILE}.draft"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            draft.replace(folder / FILE)
    except OSError as error:
        raise InputOutput(f"{folder / FILE} cannot be written: {error.strerror}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / f".{FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _owners(folder: Path) -> dict[str, Any]:
    try:
        data = (folder / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InputOutput(f"{folder / FILE} cannot be read: {error.strerror}") from None
    try:
        document = json.loads(data)
        owners = document["owners"]
        if document["schema"] != SCHEMA or not isinstance(owners, dict):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _corrupt(folder) from None
    return owners


def _claims(folder: Path, document: Any) -> Claims:
    try:
        return Claims(*(frozenset(_texts(document.get(one.name, ()))) for one in fields(Claims)))
    except (AttributeError, TypeError, ValueError):
        raise _corrupt(folder) from None


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if not isinstance(value, str):
            raise TypeError
        yield value


def _corrupt(folder: Path) -> CorruptDocument:
    return CorruptDocument(
        f"{folder / FILE} is not a record of what manifests declared",
        details={"path": str(folder / FILE)},
        next_step=f"remove {folder / FILE}; nothing is pruned until the manifests were applied once more",
    )
