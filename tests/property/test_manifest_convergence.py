"""Whatever is recorded and whatever is described: apply converges, a weight moves only the dial, export plans nothing.

Any bytes as a manifest are read or refused, never a defect.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.manifest_scene import Scene, changes, make_bundle, manifest

from greentic.operations.manifest import applying, exporting
from greentic.operations.manifest.reading import Source
from greentic.spec.errors import Conflict, SpecViolation
from greentic.spec.manifest import read

ARCHIVES = ("one", "two", "three")
BUNDLES = ("web", "shop", "desk")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
ROUTES = ("/a", "/b", "/c")


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    for name in ARCHIVES:
        make_bundle(folder, name)
    return folder


@st.composite
def weights(draw: st.DrawFn, count: int) -> list[int]:
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=count - 1, max_size=count - 1)))
    return [after - before for before, after in zip([0, *cuts], [*cuts, 10_000], strict=True)]


@st.composite
def bundles(draw: st.DrawFn, name: str, route: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"bundle_id": name, "route_binding": {"path_prefixes": [route]}}
    if draw(st.booleans()):
        entry["bundle_path"] = f"{draw(st.sampled_from(ARCHIVES))}.gtbundle"
    else:
        chosen = draw(st.lists(st.sampled_from(ARCHIVES), min_size=1, max_size=3))
        shares = draw(weights(len(chosen)))
        entry["revisions"] = [
            {"name": f"r{index}", "bundle_path": f"{archive}.gtbundle", "weight_bps": share}
            for index, (archive, share) in enumerate(zip(chosen, shares, strict=True))
        ]
    if draw(st.booleans()):
        entry["status"] = draw(st.sampled_from(("active", "paused", "archived")))
    if draw(st.booleans()):
        entry["config_overrides"] = draw(
            st.sampled_from(({}, {"assistant": {"tone": "warm"}}, {"assistant": {"tone": "no"}}))
        )
    if draw(st.booleans()):
        entry["revenue_share"] = [{"party_id": "a", "basis_points": 6000}, {"party_id": "b", "basis_points": 4000}]
    return entry


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(BUNDLES), unique=True, max_size=3))
    routes = draw(st.permutations(ROUTES))
    entries = [draw(bundles(name, route)) for name, route in zip(names, routes, strict=False)]
    sections: dict[str, Any] = {}
    if draw(st.booleans()):
        sections["host"] = {"region": draw(st.sampled_from(("eu", "us"))), "gui_enabled": draw(st.booleans())}
    if names and draw(st.booleans()):
        links = draw(st.lists(st.sampled_from(names), unique=True))
        chat: dict[str, Any] = {"name": "chat", "provider_type": "messaging.webchat", "links": links}
        if links and draw(st.booleans()):
            chat["welcome_flow"] = {"bundle_id": links[0], "pack_id": "assistant", "flow_id": "hello"}
        sections["messaging_endpoints"] = [chat]
    return manifest(*entries, **sections)


def reweighted(described: dict[str, Any], shares: list[list[int]]) -> list[str]:
    """Change the weights of every split in place; the bundles whose split is really another one."""
    moved = []
    for entry, drawn in zip(described.get("bundles", []), shares, strict=False):
        revisions = entry.get("revisions", [])
        before = [one["weight_bps"] for one in revisions]
        if len(revisions) == len(drawn) and len({one["bundle_path"] for one in revisions}) == len(revisions):
            for one, weight in zip(revisions, drawn, strict=True):
                one["weight_bps"] = weight
            if before != drawn and entry.get("status") != "archived":
                moved.append(entry["bundle_id"])
    return moved


SLOW = settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@SLOW
@given(st.lists(st.tuples(manifests(), st.booleans()), min_size=1, max_size=3), st.data())
def test_apply_converges_from_anywhere(
    archives: Path, runs: list[tuple[dict[str, Any], bool]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        folder = Path(place)
        for archive in archives.glob("*.gtbundle"):
            shutil.copy(archive, folder)
        scene = Scene(folder)
        applied: dict[str, Any] | None = None
        for described, prune in runs:
            try:
                scene.apply(described, prune=prune)
            except Conflict as refusal:
                # What is recorded and not described may stand in the way; nothing else may.
                if "would both serve" not in refusal.message and "reaches it" not in refusal.message:
                    raise
                continue
            applied = described
            again = scene.plan(described, prune=prune)
            assert changes(again) == []
            assert again["missing"] == []
        if applied is None:
            return
        _exported_plans_nothing(scene)
        shares = [data.draw(weights(len(one.get("revisions", [0])))) for one in applied.get("bundles", [])]
        before = scene.environment.revisions
        moved = reweighted(applied, shares)
        told = scene.apply(applied)
        assert [kind for kind, _, _ in changes(told)] == ["move-traffic"] * len(moved)
        assert scene.environment.revisions == before


def _exported_plans_nothing(scene: Scene) -> None:
    path = scene.folder / "exported.yaml"
    exporting.export(scene.context(), "local", path)
    assert changes(asyncio.run(applying.plan(scene.context(), Source.of_file(path)))) == []


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for origin in ("env.yaml", "env.json"):
        try:
            read(data, origin)
        except SpecViolation:
            continue


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
KEYS = ("environment", "trust_root", "secrets", "packs", "bundles", "extensions", "messaging_endpoints", "cluster")
FIELDS = (
    *("id", "path", "slot", "kind", "pack_ref", "answers", "bundle_id", "bundle_path", "revisions", "weight_percent"),
    *("weight_bps", "name", "links", "welcome_flow", "route_binding", "hosts", "path_prefixes", "revenue_share"),
    *("config_overrides", "customer_id", "instance_id", "provider_type", "status", "tenant_selector", "basis_points"),
)
ENTRY = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5)
PART = st.one_of(JSON, ENTRY, st.lists(st.one_of(ENTRY, JSON), max_size=3))


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from((*KEYS, "updates", "vault_bootstrap", "other")), PART, max_size=4))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    data = json.dumps({"schema": "greentic.env-manifest.v1", **document}).encode()
    for origin in ("env.yaml", "env.json"):
        try:
            read(data, origin)
        except SpecViolation:
            continue


PIECES = """\
schema: greentic.env-manifest.v1
environment: {id: local}
a: &a [*a, *a]
b: *a
<<: *a
- x
? y
bundles:
  - bundle_id: web
    bundle_path: !!binary x
---
...
%YAML 1.2
\t
'
k: |"""
LINES = st.lists(st.sampled_from(PIECES.splitlines()), max_size=12).map("\n".join)


@settings(deadline=None, max_examples=200)
@given(LINES)
def test_yaml_in_pieces_is_read_or_refused(text: str) -> None:
    try:
        read(text.encode(), "env.yaml")
    except SpecViolation:
        return
