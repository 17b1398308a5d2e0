"""The skeleton of a new bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from greentic.bundles.placement import file_system
from greentic.spec.errors import Conflict, InvalidArgument

KINDS = ("asgi", "process")

_BUNDLE_YAML = """\
bundle_id: {bundle_id}
bundle_name: {bundle_id}
version: 0.1.0
"""

_PACK_YAML = """\
pack_id: {bundle_id}
version: 0.1.0
kind: application
application:
  kind: {kind}
  {application}
health:
  path: /healthz
  timeout_seconds: 30
capabilities: []
setup: []
"""

_APPLICATIONS: Mapping[str, str] = {
    "asgi": "app: main:app",
    "process": 'command: ["./serve", "--port", "$PORT"]',
}
_FILES: Mapping[str, str] = {"asgi": "main.py", "process": "serve"}


def init(directory: Path, bundle_id: str, kind: str = "asgi") -> tuple[Path, ...]:
    """Writes the source of a working bundle with one pack to `directory`; returns the files, sorted.

    `kind` is "asgi" (a small application without dependencies) or "process" (a small Python server that reads $PORT).
    Both answer `/healthz`, `/` and a JSON `POST /message`, and say which revision they are.

    Raises InvalidArgument for a `bundle_id` that is not 1 to 63 of `a-z 0-9 . _ -` beginning with a letter or a
    digit, or an unknown kind; Conflict when the folder holds something; InputOutput. On failure nothing that was
    written stays.
    """
    from greentic.bundles.manifest import IDENTIFIER

    directory = Path(directory)
    if not IDENTIFIER.fullmatch(bundle_id):
        raise InvalidArgument(
            f"{bundle_id!r} cannot be a bundle id: it must be 1 to 63 of a-z 0-9 . _ - "
            "and begin with a letter or a digit",
            details={"bundle_id": bundle_id},
        )
    if kind not in KINDS:
        raise InvalidArgument(
            f"{kind!r} is not a kind of application; known kinds: {', '.join(KINDS)}",
            details={"kind": kind, "known": list(KINDS)},
        )
    with file_system(f"writing {directory}", directory):
        existed = directory.is_dir()
        if (existed and any(directory.iterdir())) or (directory.exists() and not existed):
            raise Conflict(
                f"{directory} is not empty",
                details={"path": str(directory)},
                next_step="name a folder that does not exist yet",
            )
        directory.mkdir(parents=True, exist_ok=True)
        try:
            return _write(directory, bundle_id, kind)
        except BaseException:
            for item in ("bundle.yaml", "packs"):
                _remove(directory / item)
            if not existed:
                directory.rmdir()
            raise


def _write(directory: Path, bundle_id: str, kind: str) -> tuple[Path, ...]:
    from importlib import resources

    pack = directory / "packs" / bundle_id
    pack.mkdir(parents=True)
    words = {"bundle_id": bundle_id, "kind": kind, "application": _APPLICATIONS[kind]}
    program = pack / _FILES[kind]
    skeleton = resources.files("greentic.bundles") / "skeletons" / kind / _FILES[kind]
    content = {
        directory / "bundle.yaml": _BUNDLE_YAML.format(**words),
        pack / "pack.yaml": _PACK_YAML.format(**words),
        program: skeleton.read_text(encoding="utf-8"),
    }
    for path, text in content.items():
        path.write_text(text, encoding="utf-8")
    if kind == "process":
        program.chmod(0o755)
    return tuple(sorted(content))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
