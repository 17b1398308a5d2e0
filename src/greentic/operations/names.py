"""Names instead of identifiers: what people call a deployment or a revision, resolved against an environment. Pure.

A deployment is called by its bundle (`web`), by bundle and customer (`web@acme`) where a bundle has several, or by a
unique prefix of its id. A revision is called `v<sequence>`, `@latest`, `@previous`, `@live`, by the version its author
gave the bundle when that is unique, or by a unique prefix of its id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.revision import Revision

_SEQUENCE = re.compile(r"v(\d{1,9})", re.ASCII)
_PREFIX = re.compile(r"[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{3,25}", re.ASCII)
"""At least four characters, so that a word never is an id by accident."""


def deployment(environment: Environment, word: str) -> BundleDeployment:
    """The deployment that `word` names; NotFound with what there is, InvalidArgument when it names several."""
    bundle, at, customer = word.partition("@")
    called = [
        found
        for found in environment.bundles
        if found.bundle_id == bundle and (not at or found.customer_id == customer)
    ]
    if not called and _PREFIX.fullmatch(word):
        called = [found for found in environment.bundles if found.deployment_id.startswith(word.upper())]
    if not called:
        known = [_called(environment, found) for found in environment.bundles]
        raise NotFound(
            f"there is no deployment '{word}' in the environment '{environment.environment_id}'",
            details={"environment_id": environment.environment_id, "deployments": known},
            next_step=f"one of: {', '.join(known[:10])}" if known else "gtc op deploy --bundle FILE.gtbundle NAME",
        )
    if len(called) > 1:
        raise InvalidArgument(
            f"'{word}' names {len(called)} deployments: {', '.join(_called(environment, one) for one in called)}",
            next_step="write bundle@customer, or more of the id",
        )
    return called[0]


def _called(environment: Environment, found: BundleDeployment) -> str:
    alone = sum(other.bundle_id == found.bundle_id for other in environment.bundles) == 1
    return found.bundle_id if alone else f"{found.bundle_id}@{found.customer_id}"


def revision(environment: Environment, owner: BundleDeployment, word: str) -> Revision:
    """The revision of `owner` that `word` names; NotFound with what there is, InvalidArgument when it names several."""
    candidates = environment.revisions_of(owner.deployment_id)
    if word.startswith("@"):
        return _alias(environment, owner, candidates, word)
    match = _SEQUENCE.fullmatch(word)
    if match is not None:
        called = [found for found in candidates if found.sequence == int(match[1])]
    else:
        called = [found for found in candidates if found.display_version == word]
        if len(called) > 1:
            called = [found for found in called if found.lifecycle is not Lifecycle.ARCHIVED] or called
        if not called and _PREFIX.fullmatch(word):
            called = [found for found in candidates if found.revision_id.startswith(word.upper())]
    if not called:
        known = [f"v{found.sequence}" for found in candidates if found.lifecycle is not Lifecycle.ARCHIVED]
        raise NotFound(
            f"'{owner.bundle_id}' has no revision '{word}'",
            details={"deployment_id": owner.deployment_id, "revisions": known},
            next_step=f"one of: {', '.join(known)}, @latest, @previous, @live"
            if known
            else f"gtc op revisions stage {owner.bundle_id} --bundle FILE.gtbundle",
        )
    if len(called) > 1:
        raise InvalidArgument(
            f"'{word}' names {len(called)} revisions of '{owner.bundle_id}': "
            + ", ".join(f"v{found.sequence}" for found in called),
            next_step="write v and the sequence, such as v" + str(called[-1].sequence),
        )
    return called[0]


def _alias(environment: Environment, owner: BundleDeployment, candidates: Sequence[Revision], word: str) -> Revision:
    alive = [found for found in candidates if found.lifecycle is not Lifecycle.ARCHIVED]
    split = environment.split(owner.deployment_id)
    shares = {} if split is None else {entry.revision_id: entry.weight_bps for entry in split.entries}
    if word == "@latest" and alive:
        return alive[-1]
    if word == "@live":
        live = [found for found in alive if shares.get(found.revision_id)]
        if live:
            return max(live, key=lambda found: (shares[found.revision_id], found.sequence))
    if word == "@previous":
        return _previous(environment, owner, alive)
    if word not in {"@latest", "@live", "@previous"}:
        raise InvalidArgument(f"there is no alias '{word}'; the aliases are @latest, @previous and @live")
    raise NotFound(
        f"'{owner.bundle_id}' has no {word.removeprefix('@')} revision",
        details={"deployment_id": owner.deployment_id},
        next_step=f"gtc op revisions list {owner.bundle_id}",
    )


def _previous(environment: Environment, owner: BundleDeployment, alive: Sequence[Revision]) -> Revision:
    """The revision that led the traffic before the present leader; before any traffic, the one before the latest."""
    leaders = [
        max(split.entries, key=lambda entry: entry.weight_bps).revision_id
        for split in (*environment.history(owner.deployment_id), environment.split(owner.deployment_id))
        if split is not None and split.entries
    ]
    by_id = {found.revision_id: found for found in alive}
    for leader in reversed(leaders[:-1]):
        if leader != leaders[-1] and leader in by_id:
            return by_id[leader]
    if not leaders and len(alive) > 1:
        return alive[-2]
    raise NotFound(
        f"'{owner.bundle_id}' has no previous revision",
        details={"deployment_id": owner.deployment_id},
        next_step=f"gtc op traffic history {owner.bundle_id}",
    )


def find(environment: Environment, words: Sequence[str]) -> Revision:
    """The revision named by `DEPLOYMENT REVISION`, or by a unique prefix of its id alone."""
    if len(words) == 2:
        return revision(environment, deployment(environment, words[0]), words[1])
    word = words[0]
    called = [found for found in environment.revisions if found.revision_id.startswith(word.upper())]
    if _PREFIX.fullmatch(word) and len(called) == 1:
        return called[0]
    if _SEQUENCE.fullmatch(word) or word.startswith("@"):
        if len(environment.bundles) == 1:
            return revision(environment, environment.bundles[0], word)
        raise InvalidArgument(f"'{word}' of which deployment?", next_step=f"write NAME {word}")
    raise NotFound(
        f"there is no revision '{word}' in the environment '{environment.environment_id}'",
        next_step="name it as DEPLOYMENT REVISION, such as web v2",
    )
