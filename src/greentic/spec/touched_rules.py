"""The rules that a change can have broken, found by what it touched.

A change of a large environment touches a few elements of its lists. `keeps` looks at these and at what refers to them,
and tells whether any rule about them is broken now. If none is, the change broke none: every other rule speaks of
elements that are the same objects as before, about which it says the same. If one is, or if that cannot be told so
soon, every rule is looked at: then somebody is refused, and it may take its time.

What a rule about one element depends on beside it is little: of a deployment, that it exists and its bundle; of a
revision, that it exists, its deployment and its bundle, and for parameters its packs; of a split, its generation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from greentic.spec.deployment import BundleDeployment
from greentic.spec.element_rules import (
    Violation,
    current_violations,
    deployment_violations,
    endpoint_violations,
    override_violations,
    packs_of,
    reference_violations,
    revision_violations,
    routes_of,
    schedule_violations,
    superseded_violations,
)
from greentic.spec.environment import DEPLOYMENTS, HISTORY, REVISIONS, REVISIONS_OF, SCHEDULES, SPLITS, Environment
from greentic.spec.indexes import Index
from greentic.spec.revision import Revision
from greentic.spec.rules import violations
from greentic.spec.spans import span

LISTS = ("bundles", "revisions", "traffic_splits", "split_history", "traffic_schedules", "messaging_endpoints")
"""The lists whose elements are looked at one by one; the rules of all other fields are looked at as a whole."""
_PAIRS = Index("bundles", lambda one: ((one.bundle_id, one.customer_id),))
_BUNDLES = Index("bundles", lambda one: (one.bundle_id,))
_ROUTES = Index("bundles", routes_of)
_CURRENT = Index("bundles", lambda one: {*one.current_revisions})
_SEQUENCES = Index("revisions", lambda one: ((one.deployment_id, one.sequence),))
_NAMED = Index("traffic_splits", lambda one: {entry.revision_id for entry in one.entries})
_GENERATIONS = Index("split_history", lambda one: ((one.deployment_id, one.generation),))
_LINKED = Index("messaging_endpoints", lambda one: {*one.linked_bundles})
_ENDPOINTS = Index("messaging_endpoints", lambda one: (one.endpoint_id,))
_PROVIDERS = Index("messaging_endpoints", lambda one: ((one.provider_type, one.provider_id),))


def broken_by(before: Environment | None, after: Environment) -> list[Violation]:
    """The rules that `after` breaks and `before` did not.

    An environment that somebody else left broken can be mended step by step; a step may not break anything more.
    """
    if before is not None and keeps(before, after):
        return []
    found = list(violations(after, unlike=before))
    if not found or before is None:
        return found
    # Places shift when something is taken out, so a violation is known by its rule and message, as often as it stood.
    known = Counter((one.rule, one.message) for one in violations(before, unlike=after))
    fresh = []
    for one in found:
        if known[one.rule, one.message] > 0:
            known[one.rule, one.message] -= 1
        else:
            fresh.append(one)
    return fresh


def keeps(before: Environment, after: Environment) -> bool:
    """Whether `after` breaks no rule that `before` kept, as far as can be told from what differs.

    True is certain. False says that a rule is broken near the change, by it or already before, or that it is not known.
    """
    if before.environment_id != after.environment_id:
        return False
    if next(violations(after, unlike=before, apart=LISTS), None) is not None:
        return False
    touched = {name: _Touched.between(getattr(before, name), getattr(after, name)) for name in LISTS}
    return next(_Look(before, after, touched).found(), None) is None


@dataclass(frozen=True, slots=True)
class _Touched:
    """What differs in a list: the elements that are `gone` from it and those that have `come`; what stands between
    them is both, for it may have changed places."""

    gone: tuple[Any, ...]
    come: tuple[Any, ...]

    @classmethod
    def between(cls, old: tuple[Any, ...], new: tuple[Any, ...]) -> _Touched:
        head, tail = span(old, new)
        return cls(old[head : len(old) - tail], new[head : len(new) - tail])


_UNSURE = Violation("", "", "")
"""It is not known whether a rule is broken."""


class _Look:
    """One look at what differs between two environments of the same name."""

    def __init__(self, before: Environment, after: Environment, touched: Mapping[str, _Touched]) -> None:
        self._before, self._after, self._touched = before, after, touched
        self._name = after.environment_id

    def found(self) -> Iterator[Violation]:
        """What is broken, or may be."""
        moved = self._other_deployments()
        yield from self._bundles()
        yield from self._revisions(moved)
        yield from self._splits(moved)
        yield from self._history(moved)
        yield from self._schedules(moved)
        yield from self._endpoints()

    def _bundles(self) -> Iterator[Violation]:
        after, touched = self._after, self._touched["bundles"]
        for one in touched.come:
            if one.env_id != self._name or not (
                self._alone(DEPLOYMENTS, one.deployment_id) and self._alone(_PAIRS, (one.bundle_id, one.customer_id))
            ):
                yield _UNSURE
            yield from deployment_violations(one, "")
            yield from current_violations(one, "", self._revision)
        for one in (*touched.come, *touched.gone):
            # Whose routes are the first to be taken may be another deployment than before.
            if any(len(after.grouped(_ROUTES).get(route, ())) > 1 for route in routes_of(one)):
                yield _UNSURE
        for one in touched.gone:
            if one.bundle_id not in after.grouped(_BUNDLES) and one.bundle_id in after.grouped(_LINKED):
                yield _UNSURE
        yield from self._parameters()

    def _parameters(self) -> Iterator[Violation]:
        """The parameters of deployments that were touched, or of whose revisions one was."""
        revisions = self._touched["revisions"]
        names = {one.deployment_id for one in (*self._touched["bundles"].come, *revisions.gone, *revisions.come)}
        for name in names:
            for one in self._after.grouped(DEPLOYMENTS).get(name, ()):
                if one.config_overrides:
                    yield from override_violations(one, "", packs_of(self._after.grouped(REVISIONS_OF).get(name, ())))

    def _other_deployments(self) -> list[str]:
        """The ids of the deployments that came or went, or that are now of another bundle."""
        touched = self._touched["bundles"]
        names = dict.fromkeys(one.deployment_id for one in (*touched.come, *touched.gone))
        return [name for name in names if self._bundle_of(self._before, name) != self._bundle_of(self._after, name)]

    def _bundle_of(self, environment: Environment, deployment_id: str) -> list[str]:
        return [one.bundle_id for one in environment.grouped(DEPLOYMENTS).get(deployment_id, ())]

    def _revisions(self, moved: Iterable[str]) -> Iterator[Violation]:
        after, touched = self._after, self._touched["revisions"]
        own = (one for name in moved for one in after.grouped(REVISIONS_OF).get(name, ()))
        for one in (*touched.come, *own):
            if not (
                self._alone(REVISIONS, one.revision_id) and self._alone(_SEQUENCES, (one.deployment_id, one.sequence))
            ):
                yield _UNSURE
            yield from revision_violations(one, "", self._name, self._deployment(one.deployment_id))
        for name in {one.revision_id for one in (*touched.come, *touched.gone)}:
            if self._told(self._before, name) != self._told(after, name) and any(self._namers(name)):
                yield _UNSURE

    def _namers(self, revision_id: str) -> Iterator[bool]:
        """For each who names a revision whether it is as before; one that came is looked at anyway."""
        for index in (_NAMED, _CURRENT):
            come = {id(one) for one in self._touched[index.field].come}
            for one in self._after.grouped(index).get(revision_id, ()):
                yield id(one) not in come

    def _told(self, environment: Environment, revision_id: str) -> list[tuple[str, str]]:
        """What those who name a revision depend on."""
        return [(one.deployment_id, one.bundle_id) for one in environment.grouped(REVISIONS).get(revision_id, ())]

    def _splits(self, moved: Iterable[str]) -> Iterator[Violation]:
        after, touched = self._after, self._touched["traffic_splits"]
        own = (one for name in moved for one in after.grouped(SPLITS).get(name, ()))
        for one in (*touched.come, *own):
            if not self._alone(SPLITS, one.deployment_id):
                yield _UNSURE
            yield from reference_violations(one, "", self._name, self._deployment(one.deployment_id), self._revision)
            for past in after.history(one.deployment_id):
                if past.generation >= one.generation:
                    yield _UNSURE
        for name in {one.deployment_id for one in touched.gone}:
            if len(after.grouped(SPLITS).get(name, ())) > len(
                [one for one in touched.come if one.deployment_id == name]
            ):
                yield _UNSURE  # another than before may be the live one now

    def _history(self, moved: Iterable[str]) -> Iterator[Violation]:
        after, touched = self._after, self._touched["split_history"]
        own = (one for name in moved for one in after.grouped(HISTORY).get(name, ()))
        for one in (*touched.come, *own):
            if not self._alone(_GENERATIONS, (one.deployment_id, one.generation)):
                yield _UNSURE
            live = after.grouped(SPLITS).get(one.deployment_id, (None,))[-1]
            yield from superseded_violations(one, "", self._name, self._ids, live)

    def _schedules(self, moved: Iterable[str]) -> Iterator[Violation]:
        after = self._after
        own = (one for name in moved for one in after.grouped(SCHEDULES).get(name, ()))
        for one in (*self._touched["traffic_schedules"].come, *own):
            if not self._alone(SCHEDULES, one.deployment_id):
                yield _UNSURE
            yield from schedule_violations(one, "", self._name, self._ids)

    def _endpoints(self) -> Iterator[Violation]:
        for one in self._touched["messaging_endpoints"].come:
            if not (
                self._alone(_ENDPOINTS, one.endpoint_id)
                and self._alone(_PROVIDERS, (one.provider_type, one.provider_id))
            ):
                yield _UNSURE
            deployed: Any = self._after.grouped(_BUNDLES)
            yield from endpoint_violations(one, "", self._name, deployed)

    def _alone(self, index: Index, key: Any) -> bool:
        return len(self._after.grouped(index).get(key, ())) == 1

    @property
    def _ids(self) -> Container[Any]:
        return self._after.grouped(DEPLOYMENTS)

    # Of several elements that have one id the last counts, as in `rules`.

    def _deployment(self, deployment_id: str) -> BundleDeployment | None:
        found: tuple[BundleDeployment | None, ...] = self._after.grouped(DEPLOYMENTS).get(deployment_id, (None,))
        return found[-1]

    def _revision(self, revision_id: str) -> Revision | None:
        found: tuple[Revision | None, ...] = self._after.grouped(REVISIONS).get(revision_id, (None,))
        return found[-1]
