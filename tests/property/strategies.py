"""Environments made by real commands, free-form JSON, and documents as a newer or other tool would write them."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, get_origin

from hypothesis import strategies as st
from tests.property.samples import other_documents

from greentic.engine.command import Command, Outcome
from greentic.engine.transition import transition
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError
from greentic.spec.verbs import find

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULIDS = st.text(ALPHABET, min_size=25, max_size=25).map(lambda text: "0" + text)


def ulid(number: int) -> str:
    """A ULID that stands for `number`."""
    digits = ""
    while number:
        number, digit = divmod(number, 32)
        digits = ALPHABET[digit] + digits
    return digits.rjust(26, "0")


class Scene:
    """An environment under commands, with a clock and identifiers of its own: nothing here depends on real time."""

    def __init__(self, environment_id: str = "local") -> None:
        self.environment_id = environment_id
        self.current: Environment | None = None
        self.ticks = 0
        self.minted = 0

    @property
    def environment(self) -> Environment:
        assert self.current is not None
        return self.current

    def now(self) -> str:
        self.ticks += 1
        return f"2026-07-24T{self.ticks // 3600 % 24:02d}:{self.ticks // 60 % 60:02d}:{self.ticks % 60:02d}Z"

    def mint(self) -> str:
        self.minted += 1
        return ulid(self.minted)

    def command(self, name: str, key: str | None = None, /, **payload: Any) -> Command:
        noun, _, verb = name.partition(" ")
        parsed = find(noun, verb).payload().model_validate(payload)
        return Command(self.environment_id, noun, verb, parsed, key or f"key-{self.mint()}", "tester")

    def do(self, name: str, key: str | None = None, /, **payload: Any) -> Outcome:
        """Carry out a verb; what it leaves behind is the environment from now on, a failed gate included."""
        outcome = transition(self.current, self.command(name, key, **payload), self.now())
        self.current = outcome.environment
        return outcome

    def create(self) -> Scene:
        self.do("env create", environment_id=self.environment_id, name=self.environment_id)
        return self

    def deploy(self, bundle: str = "web", customer: str = "acme", **payload: Any) -> str:
        """A deployment on a path of its own; its id."""
        deployment_id = self.mint()
        payload.setdefault("route_binding", {"path_prefixes": [f"/{deployment_id.lower()}"]})
        self.do("bundles add", deployment_id=deployment_id, bundle_id=bundle, customer_id=customer, **payload)
        return deployment_id

    def stage(self, deployment_id: str, **payload: Any) -> str:
        revision_id = self.mint()
        frozen = {
            "bundle_digest": "sha256:" + "ab" * 32,
            "pack_list": [{"pack_id": "hello", "version": "1.0.0", "digest": "sha256:" + "cd" * 32}],
            "pack_list_lock_ref": f"revisions/{revision_id}/pack-list.lock",
            "pack_config_refs": [f"revisions/{revision_id}/pack-configs/hello.json"],
            "config_digest": "sha256:" + "ef" * 32,
        }
        self.do("revisions stage", **{"revision_id": revision_id, "deployment_id": deployment_id, **frozen, **payload})
        return revision_id

    def warm(self, revision_id: str, *, ok: bool = True) -> Outcome:
        gate: dict[str, Any] = {"ok": ok}
        if not ok:
            gate["failure"] = {"failed_checks": ["provider-health"], "message": "no answer"}
        return self.do("revisions warm", revision_id=revision_id, health_gate=gate)

    def ready(self, deployment_id: str, count: int = 1) -> list[str]:
        """That many new ready revisions."""
        made = [self.stage(deployment_id) for _ in range(count)]
        for revision_id in made:
            self.warm(revision_id)
        return made

    def dial(
        self, deployment_id: str, shares: dict[str, int], key: str | None = None, note: str | None = None
    ) -> Outcome:
        entries = [{"revision_id": revision, "weight_bps": weight} for revision, weight in shares.items()]
        return self.do("traffic set", key, deployment_id=deployment_id, entries=entries, updated_by="ops", note=note)

    def rollback(self, deployment_id: str, to: int | None = None, key: str | None = None) -> Outcome:
        return self.do("traffic rollback", key, deployment_id=deployment_id, to_generation=to, updated_by="ops")

    def clear(self, deployment_id: str) -> Outcome:
        return self.do("traffic clear", deployment_id=deployment_id, updated_by="ops")


@st.composite
def weights(draw: st.DrawFn, count: int, *, zeros: bool = False) -> list[int]:
    """`count` weights that sum to exactly 10,000, awkward ones as likely as round ones."""
    least = 0 if zeros else 1
    edges = [0, 0, 10_000] if zeros else []
    cut = st.one_of(st.sampled_from([*edges, 1, 3, 100, 3_333, 5_000, 9_999]), st.integers(least, 10_000 - least))
    cuts = draw(st.lists(cut, min_size=count - 1, max_size=count - 1, unique=not zeros))
    bounds = [0, *sorted(cuts), 10_000]
    return [after - before for before, after in pairwise(bounds)]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A scene after a number of random commands, each of which may have been refused."""
    scene = Scene().create()
    deployments = [scene.deploy(f"bundle-{number}") for number in range(draw(st.integers(1, 3)))]
    revisions = {deployment: scene.ready(deployment, draw(st.integers(1, 3))) for deployment in deployments}
    for _ in range(draw(st.integers(0, 8))):
        deployment = draw(st.sampled_from(deployments))
        revision = draw(st.sampled_from(revisions[deployment]))
        try:
            match draw(
                st.sampled_from(["set", "set", "rollback", "clear", "stage", "fail", "drain", "archive", "pause"])
            ):
                case "set":
                    named = draw(st.permutations(revisions[deployment]))
                    scene.dial(deployment, dict(zip(named, draw(weights(len(named), zeros=True)), strict=True)))
                case "rollback":
                    scene.rollback(deployment)
                case "clear":
                    scene.clear(deployment)
                case "stage":
                    revisions[deployment].append(scene.stage(deployment, display_version="2.0.0"))
                case "fail":
                    scene.warm(scene.stage(deployment), ok=False)
                case "pause":
                    scene.do(
                        "bundles update",
                        deployment_id=deployment,
                        status="paused",
                        config_overrides={"hello": {"a": 1}},
                    )
                case verb:
                    scene.do(f"revisions {verb}", revision_id=revision)
        except GreenticError:
            continue
    return scene


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)
"""Any JSON value."""
ROUGH = st.recursive(
    st.one_of(SCALARS, st.floats(), st.text(max_size=5), st.just(10**4250), st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
"""What a careless program may hand over as JSON: also lone surrogates, infinities, numbers without end."""

MAPS = {"config_overrides", "non_secret", "secret_refs", "runtime_refs", "discovered", "files", "snapshot", "target"}
"""Fields whose keys are data, not names of fields."""


@st.composite
def sprinkled(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """`document` with unknown fields at every level, as a newer version would write it."""
    copied: dict[str, Any] = copy.deepcopy(document)

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            for key, member in list(value.items()):
                if key not in MAPS:
                    visit(member)
            for key in draw(st.lists(st.one_of(TEXTS.map(lambda text: f"x-{text}"), st.just("schema_")), max_size=2)):
                value[key] = draw(JSON)
        elif isinstance(value, list):
            for member in value:
                visit(member)

    visit(copied)
    return copied


LISTS = [name for name, field in Environment.model_fields.items() if get_origin(field.annotation) is tuple]


@st.composite
def rearranged(draw: st.DrawFn, environment: Environment, other: Environment) -> Environment:
    """`environment` with elements of its lists taken out, moved, repeated, put back equal but new, or of `other`."""
    changed: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(LISTS), unique=True)):
        pool = [one for source in (environment, other) for one in getattr(source, name)]
        pool += [one.model_copy() for one in pool[:3]]
        changed[name] = tuple(draw(st.lists(st.sampled_from(pool), max_size=6))) if pool else ()
    if draw(st.booleans()):
        changed["name"] = draw(TEXTS)
    return environment.model_copy(update=changed)


def reference_environment() -> dict[str, Any]:
    """The sample of reference 01 section 1.20, with real ULIDs."""
    deployment, revision = "01J0000000000000000000000D", "01J0000000000000000000000R"
    return {
        "schema": "greentic.environment.v1",
        "environment_id": "local",
        "name": "local",
        "host_config": {"env_id": "local", "tenant_org_id": "demo", "listen_addr": "127.0.0.1:8080"},
        "packs": [
            {
                "slot": "deployer",
                "kind": "greentic.deployer.local-process@0.1.0",
                "pack_ref": "greentic.deployer.local-process@0.1.0",
                "generation": 0,
            }
        ],
        "bundles": [
            {
                "schema": "greentic.bundle-deployment.v1",
                "deployment_id": deployment,
                "env_id": "local",
                "bundle_id": "helpdesk",
                "customer_id": "local-dev",
                "status": "active",
                "current_revisions": [],
                "route_binding": {
                    "hosts": [],
                    "path_prefixes": ["/help"],
                    "tenant_selector": {"tenant": "default", "team": "default"},
                },
                "revenue_share": [{"party_id": "greentic", "basis_points": 10000}],
                "revenue_policy_ref": "billing-policies/helpdesk/local-dev/v1.json",
                "created_at": "2026-07-24T10:00:00Z",
                "authorization_ref": "auth.json",
            }
        ],
        "revisions": [
            {
                "schema": "greentic.revision.v1",
                "revision_id": revision,
                "env_id": "local",
                "bundle_id": "helpdesk",
                "deployment_id": deployment,
                "sequence": 1,
                "created_at": "2026-07-24T10:00:00.123456789+00:00",
                "bundle_digest": "sha256:ab",
                "pack_list": [{"pack_id": "hello", "version": "0.0.0", "digest": "sha256:cd"}],
                "pack_list_lock_ref": f"revisions/{revision}/pack-list.lock",
                "pack_config_refs": [],
                "config_digest": "sha256:00",
                "signature_sidecar_ref": "rev.sig",
                "lifecycle": "ready",
                "staged_at": "2026-07-24T10:00:00Z",
                "warmed_at": "2026-07-24T10:00:01Z",
                "drain_seconds": 30,
                "abort_metrics": [],
            }
        ],
        "traffic_splits": [
            {
                "schema": "greentic.traffic-split.v1",
                "env_id": "local",
                "deployment_id": deployment,
                "bundle_id": "helpdesk",
                "generation": 0,
                "entries": [{"revision_id": revision, "weight_bps": 10000}],
                "updated_at": "2026-07-24T10:00:02Z",
                "updated_by": "operator",
                "idempotency_key": "k1",
                "authorization_ref": "auth.json",
            }
        ],
        "messaging_endpoints": [
            {
                "schema": "greentic.messaging-endpoint.v1",
                "env_id": "local",
                "endpoint_id": "01J0000000000000000000000E",
                "provider_id": "support",
                "provider_type": "messaging.telegram.bot",
                "display_name": "Hilfe für alle",
                "secret_refs": ["secret://local/default/_/telegram/token"],
                "linked_bundles": ["helpdesk"],
                "welcome_flow": {"bundle_id": "helpdesk", "pack_id": "hello", "flow_id": "welcome"},
                "generation": 3,
                "created_at": "2026-07-24T10:00:00Z",
                "updated_at": "2026-07-24T10:00:00Z",
                "updated_by": "ops#idem=add:k",
            }
        ],
        "extensions": [
            {"kind": "acme.audit@1.0.0-rc.1+build.5", "pack_ref": "x", "instance_id": "eu-1", "generation": 0}
        ],
        "revocation": {"required": False},
        "retention": {"keep_revisions": 5},
        "health": {"state": "unknown"},
    }


def reference_documents() -> list[dict[str, Any]]:
    """One document of each kind, as the reference writes it."""
    environment = reference_environment()
    revision = environment["revisions"][0]
    return [
        environment,
        environment["bundles"][0]
        | {"usage": {"meter_endpoint": "https://meter", "last_seen_at": "2026-07-24T10:00:00Z"}},
        revision,
        environment["traffic_splits"][0] | {"previous_split_ref": "inline://e30"},
        environment["messaging_endpoints"][0],
        {
            "schema": "greentic.pack-list-lock.v1",
            "revision_id": revision["revision_id"],
            "packs": [{"pack_id": "hello", "path": "revisions/x/packs/hello.gtpack", "digest": "sha256:cd"}],
        },
        {
            "schema": "greentic.pack-config.v1",
            "pack_id": "hello",
            "revision_id": revision["revision_id"],
            "non_secret": {"greeting": "hi", "nested": {"list": [1, 2.5, None, True]}},
            "secret_refs": {"token": "secret://local/helpdesk/hello/token"},
            "runtime_refs": {"address": "runtime://local/discovered/listen_addr"},
        },
        {
            "schema": "greentic.runtime-config.v1",
            "env_id": "local",
            "revisions": [
                {
                    "deployment_id": revision["deployment_id"],
                    "revision_id": revision["revision_id"],
                    "bundle_id": "helpdesk",
                    "pack_list_refs": [revision["pack_list_lock_ref"]],
                    "pack_config_refs": [],
                    "weight_bps": 10000,
                }
            ],
        },
        *other_documents(),
    ]
