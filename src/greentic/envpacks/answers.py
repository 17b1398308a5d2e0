"""The answers of a binding, as they lie in the environment's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from greentic.spec.errors import CorruptDocument


def answers_at(folder: Path, reference: str | None, kind: str) -> dict[str, Any]:
    """The answers of a binding of `kind` at `reference` below `folder`; none for None, CorruptDocument when they cannot
    be read.
    """
    if reference is None:
        return {}
    try:
        found = json.loads((folder / reference).read_bytes())
    except (OSError, ValueError) as error:
        raise CorruptDocument(f"the answers of {kind} ({reference}) cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CorruptDocument(f"the answers of {kind} ({reference}) are not an object")
    return found
