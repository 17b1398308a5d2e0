"""The key ring of an environment: `router-keys.json`, made once, for the owner's eyes alone.

{"active": kid, "ring": [{"kid": …, "secret": base64 of 32 random bytes, "created_at": RFC 3339}]}. It goes to the
router over the control channel only; it never stands in a log, an argument or an error.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from greentic.spec.errors import CorruptDocument, Denied, InputOutput

SECRET_BYTES = 32


def ensure(path: Path) -> dict[str, Any]:
    """The key ring at `path`, made when there is none. Two that make it at once end with the same one.

    CorruptDocument when it is malformed, Denied when others may read it, InputOutput when the file system refuses.
    """
    try:
        if not path.exists():
            _create(path)
        return read(path)
    except OSError as error:
        raise InputOutput(f"the key ring {path} cannot be used: {error.strerror}") from error


def read(path: Path) -> dict[str, Any]:
    """The key ring at `path`; errors as of `ensure`, FileNotFoundError when there is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o077:
            raise Denied(
                f"the key ring {path} can be read by others (mode {mode:04o})",
                next_step=f"chmod 600 {path}, and delete it to have new keys when somebody may have read it",
            )
        return _checked(path, file.read(64 * 1024))


def _create(path: Path) -> None:
    kid = f"k{secrets.token_hex(4)}"
    secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    ring = {"active": kid, "ring": [{"kid": kid, "secret": secret, "created_at": created}]}
    # Linked into place when complete: whoever loses the race finds a whole file of the winner.
    draft = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(ring, indent=2).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)


def _checked(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
        kids = [_kid(entry) for entry in document["ring"]]
        if document["active"] not in kids or len(set(kids)) != len(kids):
            raise ValueError("the active key is not in the ring, or a key stands twice")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "it is not of the form of a key ring"
        raise CorruptDocument(
            f"the key ring {path} cannot be trusted: {reason}",
            next_step=f"restore it from a backup, or delete {path} to have new keys (sessions and previews then end)",
        ) from None
    return {"active": document["active"], "ring": document["ring"]}


def _kid(entry: Any) -> str:
    try:
        secret = base64.b64decode(entry["secret"], validate=True)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret is not base64 of {SECRET_BYTES} bytes")
    if not isinstance(entry["kid"], str) or not entry["kid"]:
        raise ValueError("a key has no kid")
    return entry["kid"]
