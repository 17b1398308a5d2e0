"""The routing table as the parent sends it: parsed once, at the edge, into typed values.

`RoutingTable.parse` checks everything the data path relies on, so that nothing behind it has to. Keys it does
not know are ignored: a newer parent may speak to an older router.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from greentic.router.caller import CallerRules
from greentic.router.keys import RING_LIMIT, SECRET_BYTES, KeyRing, SigningKey
from greentic.router.limits import Limits
from greentic.router.pins import IN_MEMORY, PinSettings
from greentic.router.spans import SpanSettings
from greentic.router.tls import TlsMaterial
from greentic.spec.errors import SpecViolation

SLOTS: Final = 10_000
"""Slots of a deployment's table: one per basis point."""
REVISION_LIMIT: Final = 256
"""Revisions listed per deployment: a slot is one byte."""
DEFAULT_PIN_SECONDS: Final = 3600

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,252})?|(?=[0-9a-f.]*:[0-9a-f.]*:)[0-9a-f:.]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+|/")
_ADDRESS = re.compile(r"(?:([A-Za-z0-9._-]{1,253})|\[([0-9A-Fa-f:.]{2,45})\]):([0-9]{1,5})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A revision that the router may reach.

    `since`: the generation at which it last entered the split; an older pin to it has ended. `honour_until` (unix
    seconds): until then pins to it as young as the generation `honour_since` are valid up to their own end, whatever
    the revision's share.
    """

    revision_id: str
    host: str
    port: int
    draining: bool
    since: int
    name: str
    honour_until: int = 0
    honour_since: int = 0


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """A deployment with its route, its revisions and the slot table as run lengths (count, index into
    `revisions`).
    """

    deployment_id: str
    bundle_id: str
    customer_id: str
    tenant: str
    team: str
    hosts: tuple[str, ...]
    path_prefixes: tuple[str, ...]
    generation: int
    pin_seconds: int
    revisions: tuple[RevisionRow, ...]
    slots: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Replica:
    """Which of the environment's routers this is: `index` (from 0) of `count`."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Everything a router serves: one environment's deployments, the keys and the options."""

    version: int
    env_id: str
    keys: KeyRing
    slot_secret: bytes
    deployments: tuple[DeploymentRow, ...]
    stamp_revision: bool
    secure_cookies: bool
    limits: Limits
    callers: CallerRules
    tls: TlsMaterial | None
    """What HTTPS is served with; None: HTTP is served."""
    pins: PinSettings
    access_log: str | None = None
    """The absolute path of the file that requests are written down in; None for none."""
    replica: Replica = Replica()
    spans: SpanSettings | None = None
    """Where spans go; None: there are none."""
    ready_path: bytes | None = None
    """The path at which a router tells whether it is ready, on every host and before any route; None for none."""

    @staticmethod
    def parse(document: Any) -> RoutingTable:
        """The table in a `configure` message.

        Raises SpecViolation naming the rule: `routing-table` (shape), `routing-keys`, `routing-address`,
        `route-binding`, `traffic-slots`, `revision-unique`, `deployment-unique`, `caller-networks`, `limits`, `pins`
        or `spans`. The secret of a key is never in a message.
        """
        root = _object(document, "table")
        options = _object(root.get("options", {}), "options")
        rows = tuple(_deployment(entry) for entry in _list(root, "deployments", "table"))
        _unique([row.deployment_id for row in rows], "deployment-unique", "deployment")
        _unique([revision.revision_id for row in rows for revision in row.revisions], "revision-unique", "revision")
        keys = _ring(root.get("keys"))
        return RoutingTable(
            version=_integer(root, "version", "table"),
            env_id=_identifier(root, "env_id", "table"),
            keys=keys,
            slot_secret=_slot_secret(root["keys"].get("slots"), keys),
            deployments=rows,
            stamp_revision=_flag(options, "stamp_revision"),
            secure_cookies=_flag(options, "secure_cookies"),
            limits=Limits.parse(options.get("limits", {})),
            access_log=_path(options, "access_log"),
            callers=CallerRules.parse(options),
            tls=TlsMaterial.parse(root.get("tls")),
            pins=_pins(root.get("pins")),
            spans=_spans(root.get("spans")),
            replica=_replica(_object(options.get("replica", {}), "options.replica")),
            ready_path=_ready_path(options.get("ready_path")),
        )


def _ready_path(value: Any) -> bytes | None:
    if value is None:
        return None
    path = _prefix(value, "options.ready_path")
    if path == "/" or path != value:
        raise SpecViolation("routing-table", "options.ready_path must be a path below / without a / at its end")
    return path.encode()


def _replica(document: Mapping[str, Any]) -> Replica:
    index, count = (
        _integer(document, key, "options.replica", default) for key, default in (("index", 0), ("count", 1))
    )
    if index >= count:
        raise SpecViolation("routing-table", "options.replica: index must be less than count")
    return Replica(index, count)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpecViolation("routing-table", f"{where} must be an object")
    return value


def _list(document: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise SpecViolation("routing-table", f"{where}.{key} must be a list")
    return value


def _text(document: Mapping[str, Any], key: str, where: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or len(value) > 256 or _CONTROL.search(value):
        raise SpecViolation("routing-table", f"{where}.{key} must be text of at most 256 printable characters")
    return value


def _identifier(document: Mapping[str, Any], key: str, where: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise SpecViolation("routing-table", f"{where}.{key} must be an identifier: letters, digits, '.', '_', '-'")
    return value


def _integer(document: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise SpecViolation("routing-table", f"{where}.{key} must be a whole number of at least 0")
    return value


def _flag(document: Mapping[str, Any], key: str) -> bool:
    value = document.get(key, False)
    if not isinstance(value, bool):
        raise SpecViolation("routing-table", f"options.{key} must be true or false")
    return value


def _path(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and (not isinstance(value, str) or not value.startswith("/") or "\0" in value):
        raise SpecViolation("routing-table", f"options.{key} must be an absolute path")
    return value


def _unique(names: list[str], rule: str, noun: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SpecViolation(rule, f"{noun} {name} is listed twice")
        seen.add(name)


def _ring(value: Any) -> KeyRing:
    document = _object(value, "keys")
    entries = _list(document, "ring", "keys")
    if not 1 <= len(entries) <= RING_LIMIT:
        raise SpecViolation("routing-keys", f"keys.ring must hold 1 to {RING_LIMIT} keys")
    active = _identifier(document, "active", "keys")
    keys: list[SigningKey] = []
    for entry in entries:
        row = _object(entry, "keys.ring entry")
        kid = _identifier(row, "kid", "keys.ring")
        keys.append(SigningKey(kid, _secret(row.get("secret"), f"the secret of key {kid}")))
    _unique([key.kid for key in keys], "routing-keys", "key")
    if active not in {key.kid for key in keys}:
        raise SpecViolation("routing-keys", f"the active key {active} is not in the ring")
    # Stable: the active key first, the others newest first as the parent lists them.
    return KeyRing(tuple(sorted(keys, key=lambda key: key.kid != active)))


def _secret(text: Any, what: str) -> bytes:
    try:
        secret = binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if isinstance(text, str) else b""
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise SpecViolation("routing-keys", f"{what} must be base64 of {SECRET_BYTES} bytes")
    return secret


def _slot_secret(text: Any, keys: KeyRing) -> bytes:
    """What keys are hashed to slots with. It stands beside the ring, because a rotation must move nobody; a parent that
    sends none gets one that follows from the active key.
    """
    return keys.active.sign(b"slots.") if text is None else _secret(text, "keys.slots")


def _pins(value: Any) -> PinSettings:
    if value is None:
        return IN_MEMORY
    document = _object(value, "pins")
    return PinSettings(
        _identifier(document, "kind", "pins"), dict(_object(document.get("settings", {}), "pins.settings"))
    )


def _spans(value: Any) -> SpanSettings | None:
    if value is None:
        return None
    document = _object(value, "spans")
    settings = dict(_object(document.get("settings", {}), "spans.settings"))
    ratio = settings.pop("sample_ratio", 1.0)
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
        raise SpecViolation("spans", "spans.settings.sample_ratio must be a number from 0 to 1")
    return SpanSettings(_identifier(document, "kind", "spans"), settings, float(ratio))


def _deployment(value: Any) -> DeploymentRow:
    row = _object(value, "deployments entry")
    deployment_id = _identifier(row, "deployment_id", "deployment")
    where = f"deployment {deployment_id}"
    revisions = tuple(_revision(entry, where) for entry in _list(row, "revisions", where))
    if len(revisions) > REVISION_LIMIT:
        raise SpecViolation("routing-table", f"{where} lists more than {REVISION_LIMIT} revisions")
    return DeploymentRow(
        deployment_id=deployment_id,
        bundle_id=_text(row, "bundle_id", where),
        customer_id=_text(row, "customer_id", where),
        tenant=_text(row, "tenant", where),
        team=_text(row, "team", where),
        hosts=tuple(_host(host, where) for host in _list(row, "hosts", where)),
        path_prefixes=tuple(_prefix(prefix, where) for prefix in _list(row, "path_prefixes", where)),
        generation=_integer(row, "generation", where),
        pin_seconds=_integer(row, "pin_seconds", where, DEFAULT_PIN_SECONDS),
        revisions=revisions,
        slots=_slots(_list(row, "slots", where), len(revisions), where),
    )


def _revision(value: Any, where: str) -> RevisionRow:
    row = _object(value, f"{where}: revisions entry")
    revision_id = _identifier(row, "revision_id", where)
    address = row.get("address")
    found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if found is None or not 0 < int(found[3]) < 65536:
        raise SpecViolation("routing-address", f"revision {revision_id}: address must be host:port")
    state = row.get("state")
    if state not in ("ready", "draining"):
        raise SpecViolation("routing-table", f"revision {revision_id}: state must be ready or draining")
    return RevisionRow(
        revision_id=revision_id,
        host=found[1] or found[2],
        port=int(found[3]),
        draining=state == "draining",
        since=_integer(row, "since", f"revision {revision_id}", 0),
        name=_text({"name": row.get("name", "")}, "name", f"revision {revision_id}"),
        honour_until=_integer(row, "honour_until", f"revision {revision_id}", 0),
        honour_since=_integer(row, "honour_since", f"revision {revision_id}", 0),
    )


def _host(value: Any, where: str) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if not _HOST.fullmatch(text):
        raise SpecViolation("route-binding", f"{where}: a host must be a name or an address without a port")
    return text.removesuffix(".")


def _prefix(value: Any, where: str) -> str:
    text = value.rstrip("/") or "/" if isinstance(value, str) else ""
    if not _PREFIX.fullmatch(text) or {".", ".."} & set(text.split("/")):
        raise SpecViolation("route-binding", f"{where}: a path prefix must be '/' or plain segments such as '/api'")
    return text


def _slots(runs: list[Any], revisions: int, where: str) -> tuple[tuple[int, int], ...]:
    slots: list[tuple[int, int]] = []
    total = 0
    for run in runs:
        if not isinstance(run, list) or len(run) != 2 or any(type(number) is not int for number in run):
            raise SpecViolation("traffic-slots", f"{where}: a run of slots must be [count, revision index]")
        count, index = run
        if not (0 < count <= SLOTS and 0 <= index < revisions):
            raise SpecViolation("traffic-slots", f"{where}: a run of slots is out of range")
        slots.append((count, index))
        total += count
    if slots and total != SLOTS:
        raise SpecViolation("traffic-slots", f"{where}: slots must total {SLOTS}, not {total}")
    return tuple(slots)
