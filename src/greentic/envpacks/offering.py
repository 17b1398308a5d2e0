"""What an installed executable offers: its client in the slot that it fills, and its bench."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from greentic.envpacks.contracts import OF_SLOT, Contract
from greentic.envpacks.credentials import Capability
from greentic.envpacks.executables import Executable
from greentic.envpacks.program_bench import open_bench
from greentic.envpacks.registry import EnvPack
from greentic.envpacks.settings import SettingsContext
from greentic.envpacks.subprocess import client
from greentic.envpacks.wire import to_json
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment

OPENED_BY: Final = "greentic.executable"
"""The entry point in the router's process that asks an executable (see `greentic.providers.executable`)."""
_MOST_SETTINGS: Final = 64

_settings: dict[str, Mapping[str, Any]] = {}
"""Settings by what they follow from: a runtime asks at every change whether they are others than those in use."""


def pack_of(executable: Executable, admit: Callable[[Environment], None]) -> EnvPack:
    """The executable as an env-pack; `admit` refuses environments that may not use it."""
    manifest = executable.manifest
    schema = manifest.answers
    return EnvPack(
        path=manifest.path,
        slot=manifest.slot,
        versions=manifest.versions,
        summary=manifest.summary,
        answers=None if schema is None else lambda: schema,
        admit=admit,
        bench=partial(open_bench, executable, executable) if manifest.bench else None,
        executable=executable,
        opened_by=OPENED_BY if manifest.slot in (Slot.SESSIONS, Slot.TELEMETRY) else None,
        declares=tuple(Capability(one.id, one.description) for one in manifest.capabilities),
        **_filling(executable, manifest.slot),
    )


def _filling(executable: Executable, slot: Slot) -> dict[str, Any]:
    """The factory of the slot, by the name of its field."""
    contract = OF_SLOT.get(slot)
    if contract is None:
        return {}
    if contract.context is None:
        return {slot.value: lambda: ForRouters(executable, contract)}
    return {slot.value: partial(client(contract), executable)}


class ForRouters:
    """The half of a sessions or telemetry env-pack that runs with the commands. The settings name the executable: it is
    asked again in each router's process, as `greentic.providers.executable` does.
    """

    def __init__(self, executable: Executable, contract: Contract) -> None:
        self._executable = executable
        self._client: Any = client(contract)(executable)

    def check(self, environment_id: str, answers: Mapping[str, Any]) -> None:
        """Have it refuse answers that cannot work."""
        self._client.check(environment_id, answers)

    def settings(self, context: SettingsContext) -> Mapping[str, Any]:
        """Where the executable is, which one, and the settings that it gives. What follows from the same is asked for
        once."""
        executable, told = self._executable, to_json(context)
        digest = executable.record.manifest_digest
        key = hashlib.sha256(json.dumps([digest, told], sort_keys=True).encode()).hexdigest()
        if key not in _settings:
            given = self._client.settings(context)
            if len(_settings) >= _MOST_SETTINGS:
                _settings.clear()
            _settings[key] = {
                "root": str(executable.folder.parent.parent),
                "path": executable.manifest.path,
                "digest": digest,
                "folder": told["folder"],
                "settings": dict(given),
            }
        return _settings[key]
