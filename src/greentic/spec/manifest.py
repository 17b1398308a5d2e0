"""The manifest: one file that describes an environment (`greentic.env-manifest.v1`; reference 01, section 5.1).

Unknown keys are refused at every level. The types say what each part may hold; what spans parts is in
`manifest_rules`. `read` tells every problem at once, each with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from greentic.spec.capabilities import Slot
from greentic.spec.deployment import DeploymentStatus, Overrides, RevenueShare, RouteBinding, TenantSelector
from greentic.spec.environment import ListenAddress, PublicBaseUrl
from greentic.spec.errors import InvalidArgument, SpecViolation
from greentic.spec.identifiers import BASIS_POINTS, DIGEST, MAX_OPAQUE, BasisPoints, NewEnvironmentId, NewName, PartyId
from greentic.spec.manifest_rules import broken, secret_path
from greentic.spec.manifest_text import ManifestText, Path, read_text
from greentic.spec.parsing import MAX_LISTED, Flag, Json, Payload, Text, problems
from greentic.spec.references import Descriptor, InstanceId, SecretUri
from greentic.spec.revision import Drain
from greentic.spec.router_settings import RouterSettings, closed
from greentic.spec.weights import parse_share

SCHEMA = "greentic.env-manifest.v1"


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("must not hold control characters")
    return value


def _digest(value: str) -> str:
    if DIGEST.fullmatch(value) is None:
        raise ValueError("a digest is 'sha256:' and 64 lower-case hexadecimal digits")
    return value


def _percent(value: Any) -> Any:
    """Basis points of a percentage; a decimal one has at most two places, and nothing is rounded."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("must be a number such as 5 or 0.25")
    try:
        return parse_share(f"{value}%")
    except InvalidArgument as error:
        raise ValueError(error.message) from None


Said = Annotated[str, Field(max_length=MAX_OPAQUE), AfterValidator(_said)]
Digest = Annotated[str, AfterValidator(_digest), Field(json_schema_extra={"pattern": f"^{DIGEST.pattern}$"})]
Percent = Annotated[
    int, BeforeValidator(_percent, json_schema_input_type=Annotated[float, Field(ge=0, le=100)]), Field(strict=True)
]
"""Written in percent, held in basis points."""
SecretPath = Annotated[str, Field(max_length=MAX_OPAQUE), AfterValidator(secret_path)]


class HostSection(Payload):
    """`environment`: which one it is, and how it meets the world. What is not said stays as it is.

    `stamp_revision` and `router` are ours: the reference does not know them.
    """

    id: NewEnvironmentId
    name: Said | None = None
    region: Text | None = None
    tenant_org_id: Text | None = None
    listen_addr: ListenAddress | None = None
    public_base_url: PublicBaseUrl | None = None
    gui_enabled: Flag | None = None
    stamp_revision: Flag | None = None
    router: Annotated[RouterSettings, AfterValidator(closed)] | None = None


class SecretEntry(Payload):
    """A secret of the environment, by its path; the value comes from a variable, or is pasted. Never in the file."""

    path: SecretPath
    from_env: Said | None = None


class PackEntry(Payload):
    """An env-pack for a slot, with the answers of its wizard in a file or written here."""

    slot: Slot
    kind: Descriptor
    pack_ref: Said
    answers_ref: Said | None = None
    answers: dict[Text, Json] | None = None


class SelectorSection(Payload):
    """Whom requests are for."""

    tenant: Said = "default"
    team: Said = "default"


class RouteSection(Payload):
    """Which requests reach a deployment."""

    hosts: tuple[Said, ...] = ()
    path_prefixes: tuple[Said, ...] = ()
    tenant_selector: SelectorSection = Field(default_factory=SelectorSection)

    def binding(self) -> RouteBinding:
        """The route as a deployment records it."""
        return RouteBinding(
            hosts=self.hosts,
            path_prefixes=self.path_prefixes,
            tenant_selector=TenantSelector(tenant=self.tenant_selector.tenant, team=self.tenant_selector.team),
        )


class ShareEntry(Payload):
    """One party's share of the revenue."""

    party_id: Annotated[PartyId, AfterValidator(_said)]
    basis_points: BasisPoints


class RevisionEntry(Payload):
    """One of several revisions of a bundle, with its share of the traffic (percent or basis points)."""

    name: Said
    bundle_path: Said
    weight_percent: Percent | None = None
    weight_bps: BasisPoints | None = None
    drain_seconds: Drain | None = None
    abort_metrics: tuple[Text, ...] = ()
    bundle_source_uri: Said | None = None
    bundle_digest: Digest | None = None

    @property
    def weight(self) -> int | None:
        """Its share in basis points, None when it is not said."""
        return self.weight_bps if self.weight_bps is not None else self.weight_percent


class BundleEntry(Payload):
    """A bundle for a customer: a single revision (`bundle_path` or `bundle_source_uri`) or several (`revisions`).

    Its identity is the bundle and the customer. An absent part is left as it is; `config_overrides: {}` clears.
    """

    bundle_id: NewName
    customer_id: NewName | None = None
    bundle_path: Said | None = None
    bundle_source_uri: Said | None = None
    bundle_digest: Digest | None = None
    revisions: tuple[RevisionEntry, ...] | None = None
    status: DeploymentStatus | None = None
    revenue_share: tuple[ShareEntry, ...] | None = None
    config_overrides: Overrides | None = None
    route_binding: RouteSection | None = None

    @property
    def shares(self) -> tuple[RevenueShare, ...] | None:
        """The revenue shares as a deployment records them, None when they are not said."""
        if self.revenue_share is None:
            return None
        return tuple(
            RevenueShare(party_id=entry.party_id, basis_points=entry.basis_points) for entry in self.revenue_share
        )

    @property
    def weights(self) -> tuple[int, ...]:
        """Basis points of each revision; without any said, equal shares and the remainder to the first."""
        if self.revisions is None:
            return (BASIS_POINTS,)
        said = [entry.weight for entry in self.revisions]
        if any(weight is not None for weight in said):
            return tuple(weight or 0 for weight in said)
        equal, remainder = divmod(BASIS_POINTS, len(self.revisions))
        return (equal + remainder, *(equal for _ in self.revisions[1:]))


class ExtensionEntry(Payload):
    """An extension of the environment; its identity is the path of `kind` and `instance_id`."""

    kind: Descriptor
    pack_ref: Said
    instance_id: InstanceId | None = None
    answers_ref: Said | None = None


class WelcomeSection(Payload):
    """The flow that greets a new conversation."""

    bundle_id: Said
    pack_id: Said
    flow_id: Said


class EndpointEntry(Payload):
    """A chat channel: the bundles it reaches, its welcome and its secrets. What is not listed is taken away."""

    name: Said
    provider_type: Said
    links: tuple[Said, ...] = ()
    welcome_flow: WelcomeSection | None = None
    secret_refs: tuple[SecretUri, ...] = ()


class ClusterSection(Payload):
    """A cluster to be made for the environment."""

    provider: Literal["kind"]
    name: Said
    kubeconfig_context: Said | None = None
    load_images: tuple[Said, ...] = ()


class UpdatesSection(Payload):
    """The channel that updates come through. `trust_did: null` says that keys are trusted by hand."""

    plan_endpoint: Said | None = None
    trust_did: Said | None = None
    enabled: Flag = True
    on_notify: Literal["record-only", "stage", "apply"] | None = None
    poll_interval_secs: Annotated[int, Field(ge=60, strict=True)] | None = None
    push_enabled: Flag | None = None
    stream_endpoint: Said | None = None


class VaultSection(Payload):
    """A vault to be filled for the environment."""

    deploy: Literal["dev-in-cluster", "external"]
    namespace: Said = "greentic"
    root_token: Said = "root"  # noqa: S105 - the well-known token of a development server
    image: Said = "hashicorp/vault:1.17"
    seed: tuple[SecretEntry, ...] = ()


class Manifest(Payload):
    """One file that describes an environment."""

    schema_: Literal["greentic.env-manifest.v1"] = Field(alias="schema")
    environment: HostSection
    trust_root: Literal["bootstrap"] | None = None
    secrets: tuple[SecretEntry, ...] = ()
    packs: tuple[PackEntry, ...] = ()
    bundles: tuple[BundleEntry, ...] = ()
    extensions: tuple[ExtensionEntry, ...] = ()
    messaging_endpoints: tuple[EndpointEntry, ...] = ()
    cluster: ClusterSection | None = None
    updates: UpdatesSection | None = None
    vault_bootstrap: VaultSection | None = None


def read(data: bytes, origin: str) -> Manifest:
    """The manifest in `data` (YAML or JSON; `origin` names it in messages).

    Raises SpecViolation whose message and `details.problems` ({path, message, line?, column?}) name every problem.
    """
    text = read_text(data, origin)
    if not isinstance(text.value, Mapping):
        raise _refusal(text, [((), "a manifest is a mapping of names to values", False)])
    found: list[tuple[Path, str, bool]] = []
    manifest: Manifest | None = None
    try:
        manifest = Manifest.model_validate(text.value)
    except ValidationError as error:
        told = problems(error)
        for problem, raw in zip(told, error.errors(include_url=False, include_input=False), strict=True):
            found.append((tuple(raw["loc"]), problem["message"], raw["type"] == "extra_forbidden"))
    found += [(path, message, False) for path, message in broken(text.value)]
    if found or manifest is None:
        raise _refusal(text, found)
    return manifest


def _refusal(text: ManifestText, found: list[tuple[Path, str, bool]]) -> SpecViolation:
    told: list[dict[str, Any]] = []
    lines: list[str] = []
    placed = [(text.place(path, key=key), path, message) for path, message, key in dict.fromkeys(found)]
    for place, path, message in sorted(placed, key=lambda one: one[0] or (0, 0)):
        dotted = ".".join(str(part) for part in path) or "(document)"
        problem: dict[str, Any] = {"path": dotted, "message": message}
        if place is not None:
            problem |= {"line": place[0], "column": place[1]}
        told.append(problem)
        where = text.origin if place is None else f"{text.origin}:{place[0]}:{place[1]}"
        lines.append(f"{where}: {dotted}: {message}")
    more = f"\nand {len(lines) - MAX_LISTED} more" if len(lines) > MAX_LISTED else ""
    rule = "SchemaMismatch" if any(path[:1] == ("schema",) for path, _, _ in found) else "Malformed"
    return SpecViolation(
        rule,
        "\n".join(lines[:MAX_LISTED]) + more,
        details={"problems": told},
        next_step="gtc op env apply --schema shows what a manifest may hold",
    )
