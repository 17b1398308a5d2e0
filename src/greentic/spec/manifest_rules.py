"""What spans the parts of a manifest: exactly one of two, unique identities, sums (reference 01, section 5.1).

The rules look at JSON values, not at types, so that they are judged also where another part is malformed. A part of the
wrong shape is none of theirs: the types say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

from greentic.spec.capabilities import Slot
from greentic.spec.element_rules import canonical_host, canonical_prefix, deployment_violations
from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import BASIS_POINTS
from greentic.spec.manifest_text import Path
from greentic.spec.secrets import SecretAddress, canonical_team
from greentic.spec.weights import parse_share

Broken = tuple[Path, str]
_DID = re.compile(r"did:web:[A-Za-z0-9.%_-]+(?::[A-Za-z0-9.%_-]+)*")
_HTTPS = re.compile(r"https://[^\s/?#@]+(?:[/?][^\s#]*)?")
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?(?:[/?][^\s#]*)?")


def broken(manifest: Mapping[str, Any]) -> Iterator[Broken]:
    """Every broken rule of the manifest's JSON values: (where, why)."""
    yield from _secrets(_list(manifest, "secrets"), ("secrets",))
    yield from _packs(_list(manifest, "packs"))
    yield from _bundles(_list(manifest, "bundles"))
    yield from _extensions(_list(manifest, "extensions"))
    yield from _endpoints(_list(manifest, "messaging_endpoints"))
    yield from _updates(_mapping(manifest, "updates"))
    vault = _mapping(manifest, "vault_bootstrap")
    yield from _secrets(_list(vault, "seed"), ("vault_bootstrap", "seed"))
    if vault and _list(manifest, "secrets"):
        yield ("secrets",), "a manifest holds secrets or vault_bootstrap, not both"


def secret_path(text: str) -> str:
    """A secret's path in canonical form: no leading slash, the whole tenant's team as `_`. ValueError otherwise."""
    parts = text.strip().removeprefix("/").split("/")
    if len(parts) == 4:
        parts[1] = canonical_team(parts[1])
    try:
        return SecretAddress.of_path("manifest", "/".join(parts)).path
    except InvalidArgument as error:
        raise ValueError(error.message + (f": {error.next_step}" if error.next_step else "")) from None


def _secret(entry: Any) -> str | None:
    try:
        return secret_path(_text(entry, "path"))
    except ValueError:
        return None


def _secrets(entries: list[Any], at: Path) -> Iterator[Broken]:
    yield from _unique(entries, at, "path", _secret, "the secret")


def _packs(entries: list[Any]) -> Iterator[Broken]:
    yield from _unique(entries, ("packs",), "slot", lambda entry: _text(entry, "slot") or None, "the slot")
    for index, entry in enumerate(entries):
        slot = _text(entry, "slot")
        if slot in set(Slot) and not Slot(slot).single:
            section = "messaging_endpoints" if slot == Slot.MESSAGING.value else "extensions"
            yield ("packs", index, "slot"), f"the slot {slot} is filled in {section}, not in packs"
        if _said(entry, "answers") and _said(entry, "answers_ref"):
            yield ("packs", index, "answers"), "answers stand here or in the file answers_ref, not both"


def _bundles(entries: list[Any]) -> Iterator[Broken]:
    yield from _unique(
        entries,
        ("bundles",),
        "bundle_id",
        lambda entry: (_text(entry, "bundle_id"), _text(entry, "customer_id")) if _text(entry, "bundle_id") else None,
        "the bundle and customer",
    )
    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping):
            at: Path = ("bundles", index)
            yield from _artifact(entry, at)
            yield from _split(entry, at)
            yield from _deployment(entry, at)
    yield from _routes(entries)


def _artifact(entry: Mapping[str, Any], at: Path) -> Iterator[Broken]:
    if _said(entry, "revisions"):
        for field in ("bundle_path", "bundle_source_uri", "bundle_digest"):
            if _said(entry, field):
                yield (*at, field), f"{field} stands in each of the revisions, not beside them"
    elif not _said(entry, "bundle_path") and not _said(entry, "bundle_source_uri"):
        yield at, "needs bundle_path, bundle_source_uri or revisions"


def _split(entry: Mapping[str, Any], at: Path) -> Iterator[Broken]:
    if not isinstance(entry.get("revisions"), list):
        return
    revisions = _list(entry, "revisions")
    place = (*at, "revisions")
    if not revisions:
        yield place, "needs at least one revision"
        return
    yield from _unique(revisions, place, "name", lambda revision: _text(revision, "name") or None, "the revision")
    weights: list[int | None] = []
    for index, revision in enumerate(revisions):
        if _said(revision, "weight_percent") and _said(revision, "weight_bps"):
            yield (*place, index, "weight_bps"), "a weight is said in weight_percent or in weight_bps, not both"
        weight, known = _weight(revision)
        if not known:
            return
        weights.append(weight)
    if any(weight is not None for weight in weights):
        for index, weight in enumerate(weights):
            if weight is None:
                yield (*place, index), "has no weight while others have one; give all of them one or none"
        total = sum(weight or 0 for weight in weights)
        if None not in weights and total != BASIS_POINTS:
            yield place, f"the weights sum to {total / 100:g}%, not 100%"


def _weight(revision: Any) -> tuple[int | None, bool]:
    """(the weight in basis points or None, whether it can be known)."""
    if not isinstance(revision, Mapping):
        return None, False
    if _said(revision, "weight_bps"):
        weight = revision["weight_bps"]
        return (weight, True) if isinstance(weight, int) and not isinstance(weight, bool) else (None, False)
    if not _said(revision, "weight_percent"):
        return None, True
    percent = revision["weight_percent"]
    if isinstance(percent, bool) or not isinstance(percent, (int, float)):
        return None, False
    try:
        return parse_share(f"{percent}%"), True
    except (InvalidArgument, ValueError):
        return None, False


def _deployment(entry: Mapping[str, Any], at: Path) -> Iterator[Broken]:
    """The rules that a deployment with these routes, shares and parameters would break."""
    from greentic.spec.deployment import BundleDeployment, DeploymentStatus, RevenueShare, RouteBinding

    route, shares, overrides = entry.get("route_binding"), entry.get("revenue_share"), entry.get("config_overrides")
    if route is None and shares is None and overrides is None:
        return
    try:
        deployment = BundleDeployment(
            deployment_id="0" * 26,
            env_id="manifest",
            bundle_id="manifest",
            customer_id="manifest",
            status=DeploymentStatus.ACTIVE,
            route_binding=RouteBinding.model_validate(route if isinstance(route, Mapping) else {}),
            revenue_share=[RevenueShare.model_validate(share) for share in shares]
            if isinstance(shares, list) and shares
            else (RevenueShare(party_id="greentic", basis_points=BASIS_POINTS),),
            revenue_policy_ref="",
            created_at="2026-01-01T00:00:00Z",
            config_overrides=overrides if isinstance(overrides, Mapping) else {},
        )
    except ValueError:
        return  # the types say what is wrong
    if shares == []:
        yield (*at, "revenue_share"), "needs at least one share; leave it out to keep what is"
    for violation in deployment_violations(deployment, ""):
        yield (*at, *(part for part in violation.path.split(".") if part)), violation.message
    selected = isinstance(route, Mapping) and route.get("tenant_selector") is not None
    if selected and not deployment.route_binding.hosts and not deployment.route_binding.path_prefixes:
        yield (*at, "route_binding"), "a tenant_selector needs at least one host or path prefix"


def _routes(entries: list[Any]) -> Iterator[Broken]:
    """Two bundles that claim the same host and prefix; an absent route is left to the environment to judge."""
    owners: dict[tuple[str, str], int] = {}
    for index, entry in enumerate(entries):
        route = _mapping(entry, "route_binding")
        if not isinstance(entry, Mapping) or entry.get("route_binding") is None or entry.get("status") == "archived":
            continue
        hosts = {canonical_host(host) for host in _list(route, "hosts") if isinstance(host, str)} or {""}
        prefixes = {canonical_prefix(one) for one in _list(route, "path_prefixes") if isinstance(one, str)} or {"/"}
        clash = {
            (host, prefix) for host in hosts for prefix in prefixes if owners.setdefault((host, prefix), index) != index
        }
        for host, prefix in sorted(clash):
            other = owners[host, prefix]
            yield (
                ("bundles", index, "route_binding"),
                f"{host or 'any host'} {prefix} is claimed by bundles.{other} ({_text(entries[other], 'bundle_id')})",
            )


def _extensions(entries: list[Any]) -> Iterator[Broken]:
    yield from _unique(
        entries,
        ("extensions",),
        "kind",
        lambda entry: (
            (_text(entry, "kind").partition("@")[0], _text(entry, "instance_id")) if _text(entry, "kind") else None
        ),
        "the extension",
    )


def _endpoints(entries: list[Any]) -> Iterator[Broken]:
    at: Path = ("messaging_endpoints",)
    yield from _unique(entries, at, "name", lambda entry: _text(entry, "name").strip() or None, "the endpoint")
    for index, entry in enumerate(entries):
        links = _list(entry, "links")
        yield from _unique(
            links, (*at, index, "links"), None, lambda link: link if isinstance(link, str) else None, "the link"
        )
        refs = _list(entry, "secret_refs")
        yield from _unique(
            refs, (*at, index, "secret_refs"), None, lambda ref: ref if isinstance(ref, str) else None, "the reference"
        )
        bundle = _text(_mapping(entry, "welcome_flow"), "bundle_id")
        if bundle and bundle not in links:
            yield (*at, index, "welcome_flow", "bundle_id"), f"'{bundle}' is not among the links"


def _updates(updates: Mapping[str, Any]) -> Iterator[Broken]:
    for field in ("plan_endpoint", "stream_endpoint"):
        address = _text(updates, field)
        if address and not _HTTPS.fullmatch(address) and not _LOOPBACK.fullmatch(address):
            yield ("updates", field), "must be an https address, or http to this machine itself"
    did = _text(updates, "trust_did")
    if did and not _DID.fullmatch(did):
        yield ("updates", "trust_did"), "must be a did:web identifier, or null for none"


def _unique(
    entries: Iterable[Any], at: Path, field: str | None, identity: Callable[[Any], Hashable | None], what: str
) -> Iterator[Broken]:
    seen: dict[Hashable, int] = {}
    for index, entry in enumerate(entries):
        key = identity(entry)
        if key is None:
            continue
        first = seen.setdefault(key, index)
        if first != index:
            name = " / ".join(part for part in key if part) if isinstance(key, tuple) else str(key)
            place = (*at, index) if field is None else (*at, index, field)
            yield place, f"{what} '{name[:100]}' stands twice, first in {'.'.join(map(str, at))}.{first}"


def _list(part: Any, key: str) -> list[Any]:
    value = part.get(key) if isinstance(part, Mapping) else None
    return value if isinstance(value, list) else []


def _mapping(part: Any, key: str) -> Mapping[str, Any]:
    value = part.get(key) if isinstance(part, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _text(part: Any, key: str) -> str:
    value = part.get(key) if isinstance(part, Mapping) else None
    return value if isinstance(value, str) else ""


def _said(part: Any, key: str) -> bool:
    return isinstance(part, Mapping) and part.get(key) is not None
