"""Environment: the target of everything (reference 01, sections 1.6, 1.11 and 1.13)."""

from __future__ import annotations

import re
from copy import copy
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from greentic.spec.capabilities import Slot
from greentic.spec.deployment import BundleDeployment
from greentic.spec.identifiers import BundleId, Counter, CustomerId, EndpointId, EnvironmentId, PackId, Timestamp
from greentic.spec.indexes import Groups, Index, Indexes
from greentic.spec.parsing import Document, Flag, Text, absent
from greentic.spec.references import Descriptor, InstanceId, RelativePath, SecretUri
from greentic.spec.revision import OMITTED, Revision
from greentic.spec.router_settings import DEFAULT_PIN_SECONDS, RouterSettings
from greentic.spec.schedule import TrafficSchedule
from greentic.spec.traffic import TrafficSplit
from greentic.spec.trust_root import TrustRootDocument

DEFAULT_LISTEN_ADDRESS = "127.0.0.1:8080"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LISTEN = re.compile(rf"({_OCTET}(?:\.{_OCTET}){{3}}|\[[0-9A-Fa-f:.%]+\]):([0-9]{{1,5}})")
_URL = re.compile(
    r"[Hh][Tt][Tt][Pp][Ss]?://"
    r"(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|(?P<ipv6>\[[0-9A-Fa-f:.]+\]))"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)


def split_address(value: str) -> tuple[str, int]:
    """(ip, port) of `ip:port` or `[ipv6]:port`; ValueError otherwise. Port 0 lets the system choose."""
    match = _LISTEN.fullmatch(value)
    if match is None or (value.startswith("[") and not _is_ipv6(match[1])):
        raise ValueError(f"not an address of the form ip:port, such as {DEFAULT_LISTEN_ADDRESS} or [::1]:8080")
    port = int(match[2])
    if port > 65_535:
        raise ValueError("a port is at most 65535")
    return match[1].strip("[]"), port


def public_base_url(value: str) -> str:
    """The canonical form of a public base URL; ValueError with the reason otherwise (reference 01, section 1.6).

    The reason never repeats the URL: it may hold a password.
    """
    text = value.strip()
    if not text or any(character.isspace() for character in text):
        raise ValueError("a public base URL is not empty and holds no white space")
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError("a public base URL begins with http:// or https://")
    authority, slash, path = text.partition("://")[2].partition("/")
    if "@" in authority:
        raise ValueError("a public base URL may not hold a user")
    if "?" in text or "#" in text or (slash and path):
        raise ValueError("a public base URL may not hold a path, a query or a fragment")
    match = _URL.fullmatch(text)
    if match is None or (match["ipv6"] and not _is_ipv6(match["ipv6"])):
        raise ValueError("a public base URL needs a host (ASCII, IDNA-encoded) and may hold a port")
    if match["port"] and not 1 <= int(match["port"]) <= 65_535:
        raise ValueError("the port of a public base URL is 1 to 65535")
    return text.removesuffix("/")


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address  # slow to import, seldom needed

    try:
        IPv6Address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _listen_address(value: str) -> str:
    split_address(value)
    return value


def _written_url(value: str) -> str:
    # What stands in a document stays as its author wrote it.
    public_base_url(value)
    return value


ListenAddress = Annotated[str, AfterValidator(_listen_address)]
PublicBaseUrl = Annotated[str, AfterValidator(public_base_url)]
"""A public base URL that somebody asks for, brought into canonical form."""
WrittenUrl = Annotated[str, AfterValidator(_written_url)]
"""A public base URL that stands in a document: judged, never changed."""


class HostConfig(Document):
    """How the environment meets the world."""

    env_id: EnvironmentId
    region: Text | None = OMITTED
    tenant_org_id: Text | None = OMITTED
    listen_addr: ListenAddress | None = OMITTED
    public_base_url: WrittenUrl | None = OMITTED
    gui_enabled: Flag | None = OMITTED
    stamp_revision: Flag | None = OMITTED
    router: RouterSettings | None = OMITTED

    @property
    def listen_address(self) -> str:
        """Where the router listens: `ip:port`."""
        return self.listen_addr or DEFAULT_LISTEN_ADDRESS

    @property
    def routers(self) -> int:
        """How many router processes there are to be."""
        asked = self.router.replicas if self.router is not None else None
        return 1 if asked is None else asked

    @property
    def pin_seconds(self) -> int:
        """How long a visitor's promise to stay on a revision lasts."""
        asked = self.router.pin_seconds if self.router is not None else None
        return DEFAULT_PIN_SECONDS if asked is None else asked


class PackBinding(Document):
    """The env-pack that fills a single slot."""

    slot: Slot
    kind: Descriptor
    pack_ref: PackId
    answers_ref: RelativePath | None = OMITTED
    generation: Counter = 0
    previous_binding_ref: Text | None = OMITTED
    updated_at: Timestamp | None = OMITTED
    updated_by: Text | None = OMITTED
    note: Text | None = OMITTED


class ExtensionBinding(Document):
    """An env-pack that extends the environment; its identity is the path of `kind` and `instance_id`."""

    kind: Descriptor
    pack_ref: PackId
    instance_id: InstanceId | None = OMITTED
    answers_ref: RelativePath | None = OMITTED
    generation: Counter = 0
    previous_binding_ref: Text | None = OMITTED
    updated_at: Timestamp | None = OMITTED
    updated_by: Text | None = OMITTED
    note: Text | None = OMITTED


class SupersededBinding(ExtensionBinding):
    """A binding that was replaced or removed, of a slot or (slot `extension`) of an extension.

    The `removed_…` fields are there when it was not replaced but taken out.
    """

    slot: Slot
    removed_at: Timestamp | None = OMITTED
    removed_by: Text | None = OMITTED
    removed_note: Text | None = OMITTED


class WelcomeFlow(Document):
    """The flow that greets a new conversation."""

    bundle_id: BundleId
    pack_id: PackId
    flow_id: Text


class MessagingEndpoint(Document):
    """A chat channel of the environment; `linked_bundles` admits, an empty list admits nobody."""

    schema_: Literal["greentic.messaging-endpoint.v1"] = Field("greentic.messaging-endpoint.v1", alias="schema")
    env_id: EnvironmentId
    endpoint_id: EndpointId
    provider_id: Text
    provider_type: Text
    display_name: Text
    secret_refs: tuple[SecretUri, ...] = ()
    webhook_secret_ref: SecretUri | None = OMITTED
    linked_bundles: tuple[BundleId, ...] = ()
    welcome_flow: WelcomeFlow | None = OMITTED
    generation: Counter = 0
    created_at: Timestamp
    updated_at: Timestamp
    updated_by: Text


class Revocation(Document):
    """Whether revoked artifacts are refused."""

    required: Flag = False
    list_ref: Text | None = OMITTED


class Retention(Document):
    """How much history is kept."""

    keep_revisions: Counter | None = OMITTED
    audit_retention_days: Counter | None = OMITTED


class HealthState(StrEnum):
    """The colours of an environment."""

    UNKNOWN = "unknown"
    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


class Health(Document):
    """What was last known of the environment's health."""

    state: HealthState = HealthState.UNKNOWN
    message: Text | None = OMITTED
    last_checked_at: Timestamp | None = OMITTED


class RetiredPolicy(Document):
    """The newest revenue policy of a bundle and customer whose deployment left or refers to an older one."""

    bundle_id: BundleId
    customer_id: CustomerId
    revenue_policy_ref: Text


class Environment(Document):
    """A place where workers run: capabilities, workloads and traffic. The source of truth.

    `split_history` holds superseded splits, oldest first, a bounded number per deployment; any of them can be rolled
    back to. It is ours: the reference keeps one level in `previous_split_ref`. `binding_history` is the same for
    bindings (the reference: `previous_binding_ref`). `trust_root` says whose signatures count here, absent until
    somebody was ever trusted (the reference: a file of its own); `retired_policies` where the revenue policies of pairs
    stopped that no deployment here refers to. Both are ours, and neither goes back when a backup is restored.
    `traffic_schedules` holds the newest schedule of each deployment that ever had one; ours, too.
    """

    schema_: Literal["greentic.environment.v1"] = Field("greentic.environment.v1", alias="schema")
    environment_id: EnvironmentId
    name: Text
    host_config: HostConfig
    packs: tuple[PackBinding, ...]
    credentials_ref: SecretUri | None = OMITTED
    bundles: tuple[BundleDeployment, ...] = ()
    revisions: tuple[Revision, ...] = ()
    traffic_splits: tuple[TrafficSplit, ...] = ()
    messaging_endpoints: tuple[MessagingEndpoint, ...] = ()
    extensions: tuple[ExtensionBinding, ...] = ()
    revocation: Revocation = Field(default_factory=Revocation)
    retention: Retention = Field(default_factory=Retention)
    health: Health = Field(default_factory=Health)
    split_history: tuple[TrafficSplit, ...] = Field(default=(), exclude_if=absent)
    binding_history: tuple[SupersededBinding, ...] = Field(default=(), exclude_if=absent)
    trust_root: TrustRootDocument | None = OMITTED
    retired_policies: tuple[RetiredPolicy, ...] = Field(default=(), exclude_if=absent)
    traffic_schedules: tuple[TrafficSchedule, ...] = Field(default=(), exclude_if=absent)

    _indexes: Indexes = PrivateAttr(default_factory=Indexes)

    def __copy__(self) -> Environment:
        copied = super().__copy__()
        # Its own, or the old environment and the new one would move them to and fro between them.
        copied._indexes = copy(self._indexes)
        return copied

    def grouped(self, index: Index) -> Groups:
        """The elements of the list that `index` is over, by their keys."""
        return self._indexes.groups(index, getattr(self, index.field))

    def deployment(self, deployment_id: str) -> BundleDeployment | None:
        """The deployment of that id, None when there is none."""
        found: BundleDeployment | None = self._first(DEPLOYMENTS, deployment_id)
        return found

    def revision(self, revision_id: str) -> Revision | None:
        """The revision of that id, None when there is none."""
        found: Revision | None = self._first(REVISIONS, revision_id)
        return found

    def revisions_of(self, deployment_id: str) -> tuple[Revision, ...]:
        """The deployment's revisions by sequence."""
        found = self.grouped(REVISIONS_OF).get(deployment_id, ())
        return tuple(sorted(found, key=lambda revision: revision.sequence))

    def split(self, deployment_id: str) -> TrafficSplit | None:
        """The deployment's live split, None when it has no traffic."""
        found: TrafficSplit | None = self._first(SPLITS, deployment_id)
        return found

    def history(self, deployment_id: str) -> tuple[TrafficSplit, ...]:
        """The deployment's superseded splits, oldest first."""
        return self.grouped(HISTORY).get(deployment_id, ())

    def schedule(self, deployment_id: str) -> TrafficSchedule | None:
        """The deployment's newest schedule, open or ended; None when it never had one."""
        found: TrafficSchedule | None = self._first(SCHEDULES, deployment_id)
        return found

    def _first(self, index: Index, key: str) -> Any:
        found = self.grouped(index).get(key)
        return None if found is None else found[0]

    def binding(self, slot: Slot) -> PackBinding | None:
        """What fills a single slot, None when nothing does."""
        return next((found for found in self.packs if found.slot is slot), None)


DEPLOYMENTS = Index("bundles", lambda one: (one.deployment_id,))
REVISIONS = Index("revisions", lambda one: (one.revision_id,))
REVISIONS_OF = Index("revisions", lambda one: (one.deployment_id,))
SPLITS = Index("traffic_splits", lambda one: (one.deployment_id,))
HISTORY = Index("split_history", lambda one: (one.deployment_id,))
SCHEDULES = Index("traffic_schedules", lambda one: (one.deployment_id,))


def fresh(environment_id: str, name: str, **host: Any) -> Environment:
    """An empty environment (reference 01, section 2.2); `host` are fields of HostConfig."""
    return Environment(
        environment_id=environment_id,
        name=name,
        host_config=HostConfig(env_id=environment_id, **host),
        packs=(),
    )
