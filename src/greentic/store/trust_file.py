"""`trust-root.json`: whom the environment trusts, as tools of the reference read it; derived from the environment.

Written after a change, only when its content differs. An environment whose document holds no trust root may have such
a file from the reference: it is left alone until it is adopted.
"""

from __future__ import annotations

import json
from pathlib import Path

from greentic.spec.environment import Environment
from greentic.store import folders
from greentic.store.io import FileSystem, read

FILE = "trust-root.json"


def refresh(files: FileSystem, folder: Path, environment: Environment) -> None:
    """Bring the file in `folder` up to date. The caller holds the environment's lock. OSError."""
    if environment.trust_root is None:
        return
    path = folder / FILE
    wanted = json.dumps(environment.trust_root.to_json(), indent=2, ensure_ascii=False).encode() + b"\n"
    if read(path) != wanted:
        folders.replace(files, folder, path, wanted, durable=False)
