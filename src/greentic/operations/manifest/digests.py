"""Digests of artifacts, remembered: a bundle that did not change is not read again.

A file is taken for unchanged when path, size, time of change and inode are those remembered. What was written within
the last two seconds is not remembered: another write in the same tick of the clock would go unnoticed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from greentic.operations.manifest.inputs import Artifact
from greentic.spec.deployment import Overrides
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.integrity import digest

FILE = "run/artifact-digests.json"
_SETTLED = 2_000_000_000
"""Nanoseconds after which the time of change of a file can be relied upon."""
_MOST = 10_000


class ArtifactDigests:
    """The digests of bundles, and of the parameters that staging them would freeze. `folder` is the environment's."""

    def __init__(self, folder: Path) -> None:
        self._place = folder / FILE
        self._folder = folder
        self._files: dict[str, list[Any]] = {}
        self._configs: dict[str, dict[str, str]] = {}
        self._used: set[str] = set()
        self._changed = False
        with suppress(OSError, ValueError, TypeError, AttributeError):  # it is a cache
            known = json.loads(self._place.read_bytes())
            self._files = {str(path): list(facts) for path, facts in known["files"].items() if len(facts) == 4}
            self._configs = {str(one): dict(configs) for one, configs in known["configs"].items()}

    def artifact(self, path: Path, overrides: Overrides) -> Artifact:
        """The bundle at `path`, as staging it with the parameters `overrides` would record it.

        Raises NotFound, BundleError, InputOutput, and InvalidArgument for parameters that do not fit.
        """
        found = self._digest(path)
        return Artifact(path, found, self._config(path, found, overrides))

    def save(self) -> None:
        """Remember what was found, for later runs; nothing when the environment has no folder. Never raises."""
        if not self._changed or not self._folder.is_dir():
            return
        if len(self._files) > _MOST:
            self._files = {path: facts for path, facts in self._files.items() if path in self._used}
        kept = {facts[3] for facts in self._files.values()}
        configs = {one: values for one, values in self._configs.items() if one in kept}
        with suppress(OSError):
            self._place.parent.mkdir(mode=0o700, exist_ok=True)
            draft = self._place.with_suffix(f".{time.monotonic_ns()}.draft")
            draft.write_text(json.dumps({"files": self._files, "configs": configs}), encoding="utf-8")
            draft.replace(self._place)
        self._changed = False

    def _digest(self, path: Path) -> str:
        try:
            status = path.stat()
        except OSError as error:
            raise NotFound(f"there is no bundle at {path}: {error.strerror}") from None
        facts = [status.st_size, status.st_mtime_ns, status.st_ino]
        name = str(path)
        self._used.add(name)
        known = self._files.get(name)
        if known is not None and known[:3] == facts and isinstance(known[3], str):
            return known[3]
        from greentic.bundles.digests import digest_file

        found = digest_file(path)
        if time.time_ns() - status.st_mtime_ns > _SETTLED:
            self._files[name] = [*facts, found]
            self._changed = True
        return found

    def _config(self, path: Path, found: str, overrides: Overrides) -> str:
        asked = digest(overrides)
        known = self._configs.get(found, {}).get(asked)
        if isinstance(known, str):
            return known
        computed = parameters_digest_of(path, overrides)
        self._configs.setdefault(found, {})[asked] = computed
        self._changed = True
        return computed


def parameters_digest_of(path: Path, overrides: Overrides) -> str:
    """The digest of the parameters that staging the bundle at `path` with `overrides` would freeze."""
    from greentic.bundles.inspect import inspect
    from greentic.operations.artifacts import parameters, parameters_digest

    info = inspect(path)
    runnable = [pack.pack_id for pack in info.packs if pack.runnable is not None]
    entry = info.entry or (runnable[0] if len(runnable) == 1 else "")
    setups = {pack.pack_id: pack.setup for pack in info.packs}
    try:
        values: Mapping[str, Any] = parameters(setups, entry, overrides)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"{path.name}: {error.message}", details=error.details, next_step=error.next_step
        ) from None
    return parameters_digest(values)
