"""The keys of an environment's routers: `router-keys.json`, made once, for the owner's eyes alone.

    {"active": kid, "ring": [{"kid": …, "secret": base64 of 32 random bytes, "created_at": RFC 3339}, …],
     "slots": base64 of 32 random bytes}

The ring signs cookies and tokens: the active key signs, all verify, newest first. `slots` hashes callers' keys to slots
of the table. It is no member of the ring, because a rotation must move nobody: whoever turns the ring keeps every
visitor where they are, and only who deletes the file gives up both. It stands here, and not in the environment's
record, because whoever knows it can tell which keys land on a canary. All of it goes to the routers over the control
channel only; it never stands in a log, an argument or an error.

A rotation has two steps, so that no router meets a signature of a key that it does not know: `stage` adds a key that
only verifies, and once every router has it, `activate` lets it sign.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from greentic.spec.errors import CorruptDocument, Denied, InputOutput

SECRET_BYTES = 32
RING_LIMIT = 4
"""Keys of a ring (`greentic.router.keys.RING_LIMIT`). A key leaves at the third rotation after its own."""


def ensure(path: Path) -> dict[str, Any]:
    """The keys at `path`, made when there are none. Two that make them at once end with the same ones.

    CorruptDocument when they are malformed, Denied when others may read them, InputOutput when the file system refuses.
    """
    try:
        if not path.exists():
            _create(path)
        found = read(path)
        if "slots" not in found:
            with _locked(path):
                found = read(path)
                if "slots" not in found:
                    found = {**found, "slots": _random()}
                    _replace(path, found)
        return found
    except OSError as error:
        raise InputOutput(f"the key ring {path} cannot be used: {error.strerror}") from error


def stage(path: Path) -> str | None:
    """Add a new key that verifies and does not sign yet, unless one waits already (of a rotation that did not end).

    The kid of the oldest key, which leaves when there are more than RING_LIMIT. Errors as of `ensure`.
    """
    with _changing(path) as found:
        if found["ring"][0]["kid"] != found["active"]:
            return None
        ring = [_key(), *found["ring"]]
        found["ring"] = ring[:RING_LIMIT]
        _replace(path, found)
        return ring[RING_LIMIT]["kid"] if len(ring) > RING_LIMIT else None


def activate(path: Path) -> dict[str, Any]:
    """Let the newest key sign from now on; the keys. Errors as of `ensure`."""
    with _changing(path) as found:
        newest = found["ring"][0]["kid"]
        if newest != found["active"]:
            found["active"] = newest
            _replace(path, found)
        return found


def kids(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the keys, newest first."""
    return tuple(entry["kid"] for entry in document["ring"])


def read(path: Path) -> dict[str, Any]:
    """The keys at `path`; errors as of `ensure`, FileNotFoundError when there are none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o077:
            raise Denied(
                f"the key ring {path} can be read by others (mode {mode:04o})",
                next_step=f"chmod 600 {path}, and delete it to have new keys when somebody may have read it",
            )
        return _checked(path, file.read(64 * 1024))


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[dict[str, Any]]:
    ensure(path)
    try:
        with _locked(path):
            yield read(path)
    except OSError as error:
        raise InputOutput(f"the key ring {path} cannot be used: {error.strerror}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One who changes the keys at a time. The lock is on the folder: the file itself is replaced."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(path: Path) -> None:
    key = _key()
    # Linked into place when complete: whoever loses the race finds a whole file of the winner.
    document = {"active": key["kid"], "ring": [key], "slots": _random()}
    with _draft(path, document) as draft, contextlib.suppress(FileExistsError):
        path.hardlink_to(draft)


def _replace(path: Path, document: dict[str, Any]) -> None:
    with _draft(path, document) as draft:
        draft.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            # A key that has signed must not be gone after a power failure.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _draft(path: Path, document: dict[str, Any]) -> Iterator[Path]:
    draft = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(document, indent=2).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _key() -> dict[str, str]:
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"kid": f"k{secrets.token_hex(4)}", "secret": _random(), "created_at": created}


def _random() -> str:
    return base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _checked(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
        kids = [_kid(entry) for entry in document["ring"]]
        if document["active"] not in kids or len(set(kids)) != len(kids):
            raise ValueError("the active key is not in the ring, or a key stands twice")
        if len(kids) > RING_LIMIT:
            raise ValueError(f"a ring holds at most {RING_LIMIT} keys")
        if "slots" in document and _bytes(document["slots"]) != SECRET_BYTES:
            raise ValueError(f"the secret of the slots is not base64 of {SECRET_BYTES} bytes")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "it is not of the form of a key ring"
        raise CorruptDocument(
            f"the key ring {path} cannot be trusted: {reason}",
            next_step=f"restore it from a backup, or delete {path} to have new keys (sessions and previews then end)",
        ) from None
    return {name: document[name] for name in ("active", "ring", "slots") if name in document}


def _kid(entry: Any) -> str:
    if _bytes(entry["secret"]) != SECRET_BYTES:
        raise ValueError(f"a secret is not base64 of {SECRET_BYTES} bytes")
    if not isinstance(entry["kid"], str) or not entry["kid"]:
        raise ValueError("a key has no kid")
    return entry["kid"]


def _bytes(secret: Any) -> int:
    """How many bytes a secret has; 0 for what is no base64."""
    try:
        return len(base64.b64decode(secret, validate=True))
    except (ValueError, TypeError):
        return 0
