"""Executable env-packs for tests: written, sealed and installed like a publisher's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from greentic.envpacks import executables, manifest
from greentic.envpacks.executables import Executable

NOW = "2026-07-24T10:00:00Z"
SERVED = """#!/bin/sh
exec "$GREENTIC_PYTHON" -P -c '
from greentic.envpacks.serve import serve
from greentic.providers.local.deployer import LocalProcessDeployer
serve(LocalProcessDeployer)'
"""
"""The local deployer itself, on the other side of the wire."""


def write(folder: Path, script: str, files: dict[str, str] | None = None, **fields: Any) -> Path:
    """The source of an env-pack with one program, sealed without a signature."""
    folder.mkdir(parents=True)
    (folder / "provider").write_text(script)
    (folder / "provider").chmod(0o755)
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    document = {
        "schema": "greentic.env-pack.v1",
        "path": "acme.deployer.test",
        "slot": "deployer",
        "versions": "^1.0.0",
        "version": "1.0.0",
        "protocol": 1,
        "summary": "a test's",
        "command": ["./provider"],
        **fields,
    }
    (folder / "env-pack.json").write_text(json.dumps(document))
    found, _ = manifest.read(folder)
    sealed = found.model_copy(update={"files": manifest.listed(folder)})
    (folder / "env-pack.json").write_bytes(sealed.to_bytes())
    return folder


def installed(place: Path, script: str, **fields: Any) -> Executable:
    """An executable that nobody signed, installed in `place`."""
    source = write(place / "source", script, **fields)
    return executables.install(source, place / "env-packs", trusted=(), unsigned=True, by="test", now=NOW)[0]
