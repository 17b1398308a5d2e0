"""What the routers ask an executable: the contracts of `greentic.router.pins` and `greentic.router.spans`, as they
travel.

An executable that is written in Python serves both halves of its slot:

    serve(AcmeSessions, SESSIONS, {PINS: AcmePins})
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from greentic.envpacks import executables
from greentic.envpacks.contracts import Contract
from greentic.envpacks.peer import Peer
from greentic.envpacks.streams import Started
from greentic.envpacks.subprocess import Subprocess
from greentic.envpacks.wire import PROTOCOL
from greentic.router.pins import PinStore
from greentic.spec.errors import CorruptDocument


@dataclass(frozen=True, slots=True)
class PinsContext:
    """What a store of session pins is made of: the settings that the other half of the env-pack gave."""

    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpansContext:
    """What an exporter is made of: the settings that the other half gave, and where all spans come from."""

    settings: Mapping[str, Any]
    env_id: str
    process_id: int


class SpanDocument(NamedTuple):
    """A `greentic.router.spans.Span` in text; what is not UTF-8 is escaped."""

    trace_id: str
    span_id: str
    parent_id: str
    ended: float
    seconds: float
    method: str
    secure: bool
    host: str
    path: str
    status: int
    request_id: str
    deployment_id: str
    bundle_id: str
    customer_id: str
    revision_id: str
    revision: str
    generation: int
    reason: str
    error: str


class SpanSink(Protocol):
    """Sends spans."""

    async def export(self, spans: tuple[SpanDocument, ...]) -> int:
        """Send `spans`; how many of them were lost."""
        ...


PINS: Final = Contract(PinStore, PinsContext, local=frozenset({"document", "close"}), kept=True)
SPANS: Final = Contract(SpanSink, SpansContext, kept=True)


class _Installed(Subprocess):
    """Starts the executable; what is asked is the caller's."""

    contract = Contract(SpanSink)


def peer(settings: Mapping[str, Any]) -> Peer:
    """The kept process of the executable that `settings` name.

    NotFound, CorruptDocument when it is not there any more as it was when the settings were made.
    """
    found = executables.find(Path(settings["root"]), settings["path"])
    if found.record.manifest_digest != settings["digest"]:
        raise CorruptDocument(f"the env-pack '{settings['path']}' is another one than was bound")
    folder = None if settings.get("folder") is None else Path(settings["folder"])
    installed = _Installed(found)
    hidden = tuple(value for value in settings["settings"].values() if isinstance(value, str) and len(value) >= 8)

    def prepare() -> AbstractContextManager[Started]:
        return installed.started(folder, hidden)

    return Peer(prepare, f"the env-pack '{settings['path']}'")


def params(context: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """The parameters of a question."""
    return {"protocol": PROTOCOL, "context": context, **arguments}
