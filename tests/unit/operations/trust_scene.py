"""An environment with operators: contexts over a files store, each with an operator key of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ulid import ULID

from greentic.envpacks.registry import Registry
from greentic.operations import environments
from greentic.operations.context import Context
from greentic.operations.heads import sealing
from greentic.spec.payloads import CreateEnvironmentPayload
from greentic.store.files import FilesStore
from greentic.store.io import LocalFileSystem

ID = "local"


class Quick(LocalFileSystem):
    """Waits for no disk."""

    def sync(self, descriptor):
        pass

    def sync_folder(self, path):
        pass


@dataclass
class Scene:
    """The place; `keys` is where operator keys are, `operator` says whose is used."""

    place: Path
    monkeypatch: object
    _ticks: object = field(default_factory=count)

    def __post_init__(self):
        self.operator("anna")

    def operator(self, name: str) -> None:
        """From now on this operator's key is used."""
        self.monkeypatch.setenv("GTC_OPERATOR_KEY_PATH", str(self.place / "keys" / name / "key.pem"))

    @property
    def folder(self) -> Path:
        return self.place / "environments" / ID

    def context(self, **options) -> Context:
        store = FilesStore(self.place / "environments", io=Quick(), seal=sealing())
        return Context(
            store=store,
            registry=Registry({}),
            actor="me",
            by="me",
            now=lambda: f"2026-07-24T10:00:{next(self._ticks) % 60:02}Z",
            mint=lambda: str(ULID()),
            **options,
        )

    def create(self) -> None:
        """The environment, without env-packs."""
        environments.create(self.context(), CreateEnvironmentPayload(environment_id=ID, name=ID))

    @property
    def environment(self):
        return self.context().store.load(ID).environment
