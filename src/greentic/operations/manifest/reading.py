"""What a plan is made from, read from the world: the manifest and its files, the record and what lies beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greentic.operations import updates
from greentic.operations.context import Context
from greentic.operations.health_evidence import Distant
from greentic.operations.manifest import matching, ownership
from greentic.operations.manifest.digests import ArtifactDigests
from greentic.operations.manifest.inputs import Answers, Artifact, Recorded, Resolved, Target
from greentic.operations.manifest.ownership import Claims
from greentic.operations.manifest.plan import Missing
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment, ExtensionBinding, PackBinding
from greentic.spec.errors import InvalidArgument, NotFound, SpecViolation
from greentic.spec.identifiers import is_ulid
from greentic.spec.integrity import content_digest, digest
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.manifest import BundleEntry, ExtensionEntry, Manifest, PackEntry, RevisionEntry, read
from greentic.spec.manifest_text import MAX_BYTES, read_text
from greentic.spec.secrets import SecretAddress
from greentic.store.contract import Stored
from greentic.store.policies import LOCAL

if TYPE_CHECKING:
    from greentic.envpacks.secrets import SecretValue

UNFINISHED = "run/env-apply-unfinished"
"""Stands in the environment's folder while a plan is carried out: the ids of the revisions that it removes, by line."""


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a manifest: its bytes, its name in messages, its file (None: standard input), and its folder.

    Relative paths in the manifest are relative to `folder`.
    """

    data: bytes
    origin: str
    path: Path | None
    folder: Path

    @classmethod
    def of_file(cls, path: Path) -> Source:
        """The manifest at `path`; NotFound when there is none."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise NotFound(
                f"the manifest {path} cannot be read: {error.strerror}",
                next_step="gtc op env apply --emit-answers-template env.yaml writes one to start from",
            ) from None
        return cls(data, str(path), path, path.parent)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything a plan is made from. `values` are the secrets to write, by path; they go nowhere but the store."""

    resolved: Resolved
    recorded: Recorded
    stored: Stored | None
    digests: ArtifactDigests
    values: Mapping[str, SecretValue]
    owner: str | None
    warnings: tuple[str, ...] = ()


def gather(context: Context, source: Source) -> Gathered:
    """Read the manifest, the record and the files that both name.

    Raises SpecViolation for a manifest or a digest that is wrong, NotFound for an env-pack that is not installed, and
    what `matching` refuses. What is merely not there is listed in `resolved.missing`.
    """
    manifest = read(source.data, source.origin)
    name = manifest.environment.id
    stored = _stored(context, name)
    environment = None if stored is None else stored.environment
    folder = context.store.artifacts(name)
    digests = ArtifactDigests(folder)
    targets = matching.targets(manifest, environment)
    artifacts, missing = _artifacts(targets, environment, source.folder, digests)
    answers, unanswered = _answers(manifest, source.folder)
    _require_installed(context, manifest, environment)
    satisfied, values, unknown, warnings = _secrets(context, manifest, environment)
    owner = None if source.path is None else ownership.owner_of(source.path)
    mine, others = (Claims(), Claims()) if stored is None else ownership.read(folder, owner)
    recorded = Recorded(
        environment,
        0 if stored is None else stored.generation,
        "" if stored is None else stored.etag,
        answers={} if environment is None else _recorded_answers(folder, environment),
        secrets=satisfied,
        trusted=stored is not None and manifest.trust_root is not None and _trusted(context, name),
        lawless=stored is not None
        and stored.generation == 1
        and name != LOCAL
        and not (folder / "policy.json").exists(),
        governed=isinstance(context.store, Distant),
        unfinished=_unfinished(folder),
        channel=None if stored is None else updates.load(context.store.files(name)),
        dids=frozenset() if stored is None else updates.trusted_dids(context.store.files(name)),
        mine=mine,
        others=others,
    )
    resolved = Resolved(
        manifest,
        content_digest(source.data),
        targets,
        artifacts,
        answers,
        (*missing, *unanswered, *unknown),
    )
    return Gathered(resolved, recorded, stored, digests, values, owner, tuple(warnings))


def with_secrets(gathered: Gathered, values: Mapping[str, SecretValue]) -> Gathered:
    """`gathered` with values that somebody pasted: those secrets are missing no more."""
    resolved = gathered.resolved
    missing = tuple(one for one in resolved.missing if one.kind != "secret_value" or one.key not in values)
    return replace(gathered, resolved=replace(resolved, missing=missing), values={**gathered.values, **values})


def _stored(context: Context, environment_id: str) -> Stored | None:
    try:
        return context.store.load(environment_id)
    except NotFound:
        return None


def _artifacts(
    targets: tuple[Target, ...], environment: Environment | None, folder: Path, digests: ArtifactDigests
) -> tuple[dict[tuple[int, int], Artifact], list[Missing]]:
    found: dict[tuple[int, int], Artifact] = {}
    missing: list[Missing] = []
    for target in targets:
        declared: tuple[RevisionEntry | BundleEntry, ...] = target.entry.revisions or (target.entry,)
        for index, revision in enumerate(declared):
            name = revision.name if isinstance(revision, RevisionEntry) else ""
            key = f"{target.entry.bundle_id}/{name}" if name else target.entry.bundle_id
            if revision.bundle_path is None:
                if not _recognised(target, environment, revision.bundle_digest):
                    missing.append(Missing("bundle_artifact", key, f"uri:{revision.bundle_source_uri}"))
                continue
            path = (folder / revision.bundle_path).absolute()
            if not path.is_file():
                missing.append(Missing("bundle_artifact", key, f"path:{path}"))
                continue
            artifact = digests.artifact(path, target.overrides)
            if revision.bundle_digest not in {None, artifact.digest}:
                raise SpecViolation(
                    "DigestMismatch",
                    f"bundles.{target.index}: {path} has the digest {artifact.digest}, "
                    f"the manifest says {revision.bundle_digest}",
                    details={"expected": revision.bundle_digest, "actual": artifact.digest},
                    next_step="put the right file there, or correct bundle_digest",
                )
            found[target.index, index] = artifact
    return found, missing


def _recognised(target: Target, environment: Environment | None, pinned: str | None) -> bool:
    """Whether a bundle that stands elsewhere is staged already: told by its pinned digest, parameters unchanged."""
    known = target.deployment
    if pinned is None or known is None or environment is None or target.overrides != known.config_overrides:
        return False
    return any(
        one.bundle_digest == pinned and one.lifecycle is not Lifecycle.ARCHIVED
        for one in environment.revisions_of(known.deployment_id)
    )


def _answers(manifest: Manifest, folder: Path) -> tuple[dict[str, Answers], list[Missing]]:
    found: dict[str, Answers] = {}
    missing: list[Missing] = []
    places: list[tuple[str, str, PackEntry | ExtensionEntry]] = []
    places += [(f"packs.{index}", pack.slot.value, pack) for index, pack in enumerate(manifest.packs)]
    places += [(f"extensions.{index}", one.kind, one) for index, one in enumerate(manifest.extensions)]
    for place, name, entry in places:
        values: Any = entry.answers if isinstance(entry, PackEntry) else None
        if entry.answers_ref is not None:
            path = folder / entry.answers_ref
            try:
                values = read_text(path.read_bytes(), str(path)).value
            except OSError:
                missing.append(Missing("answers_file", name, f"path:{path.absolute()}"))
                continue
            if not isinstance(values, dict):
                raise SpecViolation("Malformed", f"{place}: {path} must hold a mapping of names to values")
        if values is not None:
            found[place] = Answers(values, digest(values))
    return found, missing


def _recorded_answers(folder: Path, environment: Environment) -> dict[str, str]:
    found: dict[str, str] = {}
    bound: tuple[PackBinding | ExtensionBinding, ...] = (*environment.packs, *environment.extensions)
    for binding in bound:
        if binding.answers_ref is not None:
            try:
                found[binding.answers_ref] = digest(json.loads((folder / binding.answers_ref).read_bytes()))
            except (OSError, ValueError):
                continue  # unreadable answers are none: the step writes them anew
    return found


def _unfinished(folder: Path) -> frozenset[str] | None:
    try:
        lines = (folder / UNFINISHED).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return frozenset(line for line in lines if is_ulid(line))


def _require_installed(context: Context, manifest: Manifest, environment: Environment | None) -> None:
    """What is to be bound must be installed here, fill that slot and serve that version; what is bound stays."""
    held: tuple[PackBinding | ExtensionBinding, ...] = ()
    if environment is not None:
        held = (*environment.packs, *environment.extensions)
    bound = {binding.kind for binding in held}
    for entry in manifest.packs:
        if entry.kind not in bound:
            context.registry.resolve(entry.kind, entry.slot)
    for extension in manifest.extensions:
        if extension.kind not in bound:
            context.registry.resolve(extension.kind, Slot.EXTENSION)


def _secrets(
    context: Context, manifest: Manifest, environment: Environment | None
) -> tuple[frozenset[str], dict[str, SecretValue], list[Missing], list[str]]:
    """(paths that are as declared, values to write, what is missing, warnings)."""
    satisfied: set[str] = set()
    values: dict[str, SecretValue] = {}
    missing: list[Missing] = []
    warnings: list[str] = []
    if not manifest.secrets:
        return frozenset(), values, missing, warnings
    from greentic.envpacks.secrets import SecretValue
    from greentic.operations import secrets

    there: frozenset[str] = frozenset()
    if environment is not None and environment.binding(Slot.SECRETS) is not None:
        there = frozenset(entry.address.path for entry in secrets.store_of(context, environment).names())
    for entry in manifest.secrets:
        value = None if entry.from_env is None else os.environ.get(entry.from_env)
        if value:
            given = SecretValue(value)
            if entry.path in there and _same(context, manifest.environment.id, entry.path, given):
                satisfied.add(entry.path)
            else:
                values[entry.path] = given
        elif entry.path in there:
            satisfied.add(entry.path)
            if entry.from_env is not None:
                warnings.append(f"the variable {entry.from_env} is not set; the secret {entry.path} stays as it is")
        else:
            source = "paste" if entry.from_env is None else f"env:{entry.from_env}"
            missing.append(Missing("secret_value", entry.path, source))
    return frozenset(satisfied), values, missing, warnings


def _same(context: Context, environment_id: str, path: str, given: SecretValue) -> bool:
    """Whether the stored value is `given`. A look at a value is authorised and audited like any other."""
    from greentic.envpacks.secrets import SecretValue
    from greentic.operations import secrets

    told = secrets.get(context, environment_id, path, reveal=True)
    here = told.get("secret_ref") == SecretAddress.of_path(environment_id, path).uri
    return here and bool(told.get("value")) and SecretValue(str(told["value"])) == given


def _trusted(context: Context, environment_id: str) -> bool:
    """Whether the operator's key is in the environment's trust root."""
    from greentic.operations import trust_root  # loads cryptography

    return trust_root.trusted(context, environment_id)


def require_value(values: Mapping[str, SecretValue], path: str) -> SecretValue:
    """The value of a secret that is to be written; InvalidArgument when nobody gave one."""
    if path not in values:
        raise InvalidArgument(f"the secret {path} has no value", next_step="set its variable, or paste it")
    return values[path]
