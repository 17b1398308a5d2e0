"""Random verbs on bindings and endpoints, against a model that knows what each must do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.property.lives import walk
from tests.property.strategies import Scene

from greentic.engine.bindings import HISTORY_DEPTH
from greentic.engine.command import Outcome
from greentic.spec import rules
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError
from greentic.spec.verbs import VERBS

REACHED: Counter[str] = Counter()
"""How often each verb changed something; also the special paths that must not be missed."""

SLOTS = ("state", "secrets")
NAMES = (*SLOTS, "acme.oauth", "acme.oauth/eu")
BUNDLES = ("web", "help")
KINDS = st.integers(0, 3)
PICK = st.integers(0, 8)
Content = tuple[str, str | None]
"""(version, answers) of a binding."""


@dataclass
class Bound:
    """What the model knows of one slot or extension."""

    live: int | None = None
    newest: int = -1
    contents: dict[int, Content] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)

    def retire(self) -> None:
        if self.live is not None:
            self.kept = [*self.kept, self.live][-HISTORY_DEPTH:]
        self.live = None

    def bind(self, content: Content) -> None:
        self.retire()
        self.newest += 1
        self.live = self.newest
        self.contents[self.newest] = content


class BindingsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.bound = {name: Bound() for name in NAMES}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.deployments: dict[str, str] = {}

    @property
    def environment(self) -> Environment:
        return self.scene.environment

    def attempt(self, name: str, /, **payload: Any) -> Outcome | None:
        """Carry out a verb; None when it is refused, and then nothing changed."""
        before, outcome, refused = self.scene.current, None, ""
        try:
            outcome = self.scene.do(name, **payload)
        except GreenticError as error:
            refused = error.kind
        if outcome is None:
            assert refused in {"conflict", "not-found", "invalid-argument"}
            assert self.scene.current is before
            return None
        if outcome.changed:
            REACHED[name] += 1
        else:
            assert outcome.environment is before
        return outcome

    @initialize()
    def create(self) -> None:
        self.attempt("env create", environment_id="local", name="local")
        for name in NAMES:
            self.add(name, 0, None)
            self.update(name, 1, "a.json")
        self.deploy("web")
        for telegram in (True, False):
            self.add_endpoint(0, telegram, telegram)
            self.link(telegram, "web")

    def ask(self, name: str, verb: str, **fields: Any) -> Outcome | None:
        """`verb` of the slot or extension `name`."""
        if name in SLOTS:
            kind = {"kind": f"acme.{name}@1.0.{fields.pop('version')}"} if "version" in fields else {}
            return self.attempt(f"env-packs {verb}", slot=name, **kind, **fields)
        path, _, instance = name.partition("/")
        key = {"kind": f"{path}@1.0.{fields.pop('version')}"} if "version" in fields else {"kind_path": path}
        return self.attempt(f"extensions {verb}", **key, instance_id=instance or None, **fields)

    @rule(name=st.sampled_from(NAMES), version=KINDS, answers=st.sampled_from([None, "a.json", "b.json"]))
    def add(self, name: str, version: int, answers: str | None) -> None:
        known = self.bound[name]
        outcome = self.ask(name, "add", version=version, answers_ref=answers)
        assert (outcome is None) == (known.live is not None)
        if outcome is not None:
            REACHED["add after remove"] += known.newest >= 0
            known.bind((str(version), answers))
            assert outcome.result["generation"] == known.newest

    @rule(name=st.sampled_from(NAMES), version=KINDS, answers=st.sampled_from([None, "a.json", "b.json"]))
    def update(self, name: str, version: int, answers: str | None) -> None:
        known = self.bound[name]
        # What a merge brought names a pack of its own; naming none means the kind itself, which is a change.
        merged = name in self.seen() and self.seen()[name].pack_ref == "merged"
        outcome = self.ask(name, "update", version=version, answers_ref=answers)
        assert (outcome is None) == (known.live is None)
        if outcome is None:
            return
        assert known.live is not None
        same = known.contents[known.live] == (str(version), answers) and not merged
        assert outcome.changed != same
        if not same:
            known.bind((str(version), answers))
        assert outcome.result["generation"] == known.live

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        known = self.bound[name]
        outcome = self.ask(name, "remove")
        assert (outcome is None) == (known.live is None)
        if outcome is not None:
            assert outcome.result["generation"] == known.live
            known.retire()

    @rule(name=st.sampled_from(NAMES), to=st.one_of(st.none(), PICK))
    def rollback(self, name: str, to: int | None) -> None:
        known = self.bound[name]
        fields = {} if to is None else {"to_generation": to}
        allowed = bool(known.kept) if to is None else to in known.kept
        outcome = self.ask(name, "rollback", **fields)
        assert (outcome is not None) == allowed
        if outcome is None:
            REACHED["rollback refused: not kept"] += to is not None
            return
        restored = known.kept[-1] if to is None else to
        REACHED["rollback after remove"] += known.live is None
        REACHED["rollback to any"] += restored != known.kept[-1]
        assert outcome.result["restored_generation"] == restored
        known.bind(known.contents[restored])
        assert outcome.result["generation"] == known.newest

    @rule(name=st.sampled_from(NAMES))
    def many_updates(self, name: str) -> None:
        """Fill the history, which single updates seldom do."""
        known = self.bound[name]
        if known.live is None or len(known.kept) > 3:
            return
        for number in range(HISTORY_DEPTH):
            self.ask(name, "update", version=10 + number % 2)
            content = (str(10 + number % 2), None)
            if known.contents[known.live] != content:
                known.bind(content)
        REACHED["history full"] += len(known.kept) == HISTORY_DEPTH

    @rule(
        slots=st.lists(st.tuples(st.sampled_from(SLOTS), KINDS), max_size=2),
        extensions=st.lists(st.tuples(st.sampled_from(NAMES[2:]), KINDS), max_size=2),
        generation=st.integers(0, 3),
    )
    def merge(self, slots: list[tuple[str, int]], extensions: list[tuple[str, int]], generation: int) -> None:
        packs = [
            {"slot": slot, "kind": f"acme.{slot}@1.0.{version}", "pack_ref": "merged", "generation": generation}
            for slot, version in slots
        ]
        more = []
        for name, version in extensions:
            path, _, instance = name.partition("/")
            more.append({"kind": f"{path}@1.0.{version}", "pack_ref": "merged", "generation": generation})
            if instance:
                more[-1]["instance_id"] = instance
        outcome = self.attempt("env migrate-bindings", packs=packs, extensions=more)
        assert outcome is not None
        taken: list[str] = []
        for name, version in (*slots, *extensions):
            known = self.bound[name]
            if known.live is None:
                known.newest = max(known.newest, generation - 1)
                known.bind((str(version), None))
                taken.append(name)
        assert [*outcome.result["merged_slots"], *outcome.result["merged_extensions"]] == taken

    @rule(region=st.sampled_from(["eu", "us"]), clear=st.booleans())
    def configure(self, region: str, clear: bool) -> None:
        outcome = self.attempt("config set", **({"clear": ["region"]} if clear else {"region": region}))
        assert outcome is not None
        assert self.environment.host_config.region == (None if clear else region)

    @rule(bundle=st.sampled_from(BUNDLES))
    def deploy(self, bundle: str) -> None:
        if bundle not in self.deployments:
            self.deployments[bundle] = self.scene.deploy(bundle)

    @rule(bundle=st.sampled_from(BUNDLES))
    def undeploy(self, bundle: str) -> None:
        if bundle not in self.deployments:
            return
        linked = any(bundle in one["linked"] for one in self.endpoints.values())
        outcome = self.attempt("bundles remove", deployment_id=self.deployments[bundle])
        assert (outcome is None) == linked
        if outcome is not None:
            del self.deployments[bundle]

    @rule(provider=st.integers(0, 2), telegram=st.booleans(), hook=st.booleans())
    def add_endpoint(self, provider: int, telegram: bool, hook: bool) -> None:
        endpoint_id = self.scene.mint()
        kind = "telegram" if telegram else "slack"
        fields = {"webhook_secret_ref": "secret://local/a/_/b/c"} if hook else {}
        if telegram and not hook:
            return  # refused as not yet implemented; a named case
        outcome = self.attempt(
            "messaging.endpoint add",
            endpoint_id=endpoint_id,
            provider_id=str(provider),
            provider_type=kind,
            display_name="it",
            updated_by="ops",
            **fields,
        )
        taken = any(one["identity"] == (kind, str(provider)) for one in self.endpoints.values())
        assert (outcome is not None) == (not taken and telegram == hook)
        if outcome is not None:
            self.endpoints[endpoint_id] = {
                "identity": (kind, str(provider)),
                "linked": [],
                "welcome": None,
                "generation": 0,
            }

    def endpoint(self, pick: int) -> str | None:
        return list(self.endpoints)[pick % len(self.endpoints)] if self.endpoints else None

    def about(self, verb: str, endpoint_id: str, **fields: Any) -> Outcome | None:
        outcome = self.attempt(f"messaging.endpoint {verb}", endpoint_id=endpoint_id, updated_by="ops", **fields)
        if outcome is not None and outcome.changed:
            self.endpoints[endpoint_id]["generation"] += 1
        return outcome

    @rule(pick=PICK, bundle=st.sampled_from(BUNDLES))
    def link(self, pick: int, bundle: str) -> None:
        endpoint_id = self.endpoint(pick)
        if endpoint_id is None:
            return
        known = self.endpoints[endpoint_id]
        outcome = self.about("link-bundle", endpoint_id, bundle_id=bundle)
        assert (outcome is None) == (bundle not in self.deployments)
        if outcome is not None and bundle not in known["linked"]:
            known["linked"].append(bundle)

    @rule(pick=PICK, bundle=st.sampled_from(BUNDLES))
    def unlink(self, pick: int, bundle: str) -> None:
        endpoint_id = self.endpoint(pick)
        if endpoint_id is None:
            return
        known = self.endpoints[endpoint_id]
        outcome = self.about("unlink-bundle", endpoint_id, bundle_id=bundle)
        owned = bundle in known["linked"] and known["welcome"] is not None and known["welcome"][0] == bundle
        assert (outcome is None) == owned
        if outcome is not None and bundle in known["linked"]:
            known["linked"].remove(bundle)

    @rule(pick=PICK, bundle=st.sampled_from(BUNDLES), flow=st.sampled_from(["hi", "ho"]))
    def welcome(self, pick: int, bundle: str, flow: str) -> None:
        endpoint_id = self.endpoint(pick)
        if endpoint_id is None:
            return
        known = self.endpoints[endpoint_id]
        outcome = self.about("set-welcome-flow", endpoint_id, bundle_id=bundle, pack_id="p", flow_id=flow)
        assert (outcome is not None) == (bundle in known["linked"])
        if outcome is not None:
            assert outcome.changed == (known["welcome"] != (bundle, flow))
            known["welcome"] = (bundle, flow)

    @rule(pick=PICK)
    def clear_welcome(self, pick: int) -> None:
        endpoint_id = self.endpoint(pick)
        if endpoint_id is None:
            return
        known = self.endpoints[endpoint_id]
        outcome = self.about("clear-welcome-flow", endpoint_id)
        assert outcome is not None
        assert outcome.changed == (known["welcome"] is not None)
        known["welcome"] = None

    @rule(pick=PICK)
    def rotate(self, pick: int) -> None:
        endpoint_id = self.endpoint(pick)
        if endpoint_id is None:
            return
        telegram = self.endpoints[endpoint_id]["identity"][0] == "telegram"
        outcome = self.about("rotate-webhook-secret", endpoint_id, webhook_secret_ref="secret://local/a/_/b/d")
        assert (outcome is not None) == telegram

    @rule(pick=PICK)
    def remove_endpoint(self, pick: int) -> None:
        endpoint_id = self.endpoint(pick)
        if endpoint_id is None or pick % 3:
            return
        outcome = self.attempt("messaging.endpoint remove", endpoint_id=endpoint_id)
        assert outcome is not None
        assert outcome.changed
        del self.endpoints[endpoint_id]

    def seen(self) -> dict[str, Any]:
        """The bindings of the record, by the names of the model."""
        if self.scene.current is None:
            return {}
        return {
            **{one.slot.value: one for one in self.environment.packs},
            **{_name(one.kind, one.instance_id): one for one in self.environment.extensions},
        }

    @invariant()
    def the_record_is_what_the_model_says(self) -> None:
        if self.scene.current is None:
            return
        environment = self.environment
        assert not list(rules.violations(environment))
        seen = self.seen()
        for name, known in self.bound.items():
            live = seen.get(name)
            assert (None if live is None else live.generation) == known.live
            if live is not None and known.live is not None:
                assert (live.kind.rpartition(".")[2], live.answers_ref) == known.contents[known.live]
                assert live.updated_at is not None or live.pack_ref == "merged"
            kept = [
                one
                for one in environment.binding_history
                if (one.slot.value if one.slot.single else _name(one.kind, one.instance_id)) == name
            ]
            assert [one.generation for one in kept] == known.kept
            for one in kept:
                assert (one.kind.rpartition(".")[2], one.answers_ref) == known.contents[one.generation]
        endpoints = {one.endpoint_id: one for one in environment.messaging_endpoints}
        assert {name: (list(one.linked_bundles), one.generation) for name, one in endpoints.items()} == {
            name: (known["linked"], known["generation"]) for name, known in self.endpoints.items()
        }

    @invariant()
    def it_reads_back(self) -> None:
        if self.scene.current is not None:
            assert Environment.model_validate(self.environment.to_json()) == self.environment


def _name(kind: str, instance: str | None) -> str:
    path = kind.partition("@")[0]
    return f"{path}/{instance}" if instance else path


NOUNS = {"config", "env-packs", "extensions", "messaging.endpoint"}
SPECIAL = (
    "env migrate-bindings",
    "add after remove",
    "rollback after remove",
    "rollback to any",
    "rollback refused: not kept",
    "history full",
)


@pytest.mark.timeout(600)
def test_random_lives_of_bindings_and_endpoints_keep_every_promise() -> None:
    REACHED.clear()
    wanted = [*(verb.name for verb in VERBS if verb.noun in NOUNS), *SPECIAL]
    walk(BindingsMachine, REACHED, wanted, examples=50)
