"""Failures as they are recorded and raised again."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from greentic.spec.errors import GreenticError, SpecViolation, StoreError

RETRY = "make room or check the disk, then run the same command again under the same key"
FORBIDDEN = "make the folder yours to write, or keep environments elsewhere: --store-root FOLDER"


def revived(document: Mapping[str, Any]) -> GreenticError:
    """The error that `GreenticError.document` described: same kind, message, details and next step."""
    kind = document["kind"]
    found = next((one for one in _family(GreenticError) if one.kind == kind), GreenticError)
    message, details, step = document["message"], document.get("details"), document.get("next_step")
    if issubclass(found, SpecViolation):
        return found((details or {}).get("rule", "Malformed"), message, details=details, next_step=step)
    return found(message, details=details, next_step=step)


def unwritten(folder: Path, error: OSError) -> StoreError:
    """The failure of a change that did not happen, or of whose happening nothing is known."""
    return StoreError(
        f"{folder} could not be written: {error.strerror or error}",
        details={"path": str(folder), "errno": error.errno},
        next_step=FORBIDDEN if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS} else RETRY,
    )


def unconfirmed(folder: Path, error: OSError) -> StoreError:
    """The failure of a change that is there, but may not survive a loss of power."""
    return StoreError(
        f"the change in {folder} was written, but the disk did not confirm it: {error.strerror or error}",
        details={"path": str(folder), "errno": error.errno, "committed": "unconfirmed"},
        next_step=RETRY,
    )


def _family(root: type[GreenticError]) -> Iterator[type[GreenticError]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)
