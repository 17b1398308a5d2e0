"""The documents of a bundle.

| document | where | who writes it |
|---|---|---|
| `BundleSource` | `bundle.yaml` | the author |
| `PackManifest` | `packs/<pack_id>/pack.yaml`; `pack.json` inside a `.gtpack` | the author; the build |
| `BundleManifest` | `bundle-manifest.json` | the build |
| `BundleLock` | `bundle-lock.json` | the build |

Fields of the last two that the reference has too mean the same there (reference 04, section 4.1). What authors write is
closed: an unknown key is a mistake. Manifest and lock are open, because the reference goes on adding fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt, StrictStr, model_validator

from greentic.bundles import questions
from greentic.bundles.application import (
    Application,
    AsgiApplication,
    Closed,
    Health,
    ProcessApplication,
)
from greentic.bundles.questions import Constraint, SetupQuestion

__all__ = [
    "Application",
    "AsgiApplication",
    "BundleLock",
    "BundleManifest",
    "BundleSource",
    "Constraint",
    "Health",
    "LockedPack",
    "PackManifest",
    "PackSummary",
    "ProcessApplication",
    "SetupQuestion",
]

FORMAT_VERSION = "gtbundle-v1"
MANIFEST_FILE = "bundle-manifest.json"
LOCK_FILE = "bundle-lock.json"
PACK_FILE = "pack.json"

UNKNOWN_VERSION = "0.0.0"
"""The version of a reference pack, whose own is in its CBOR manifest; the reference writes the same (reference 01)."""

IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FOREIGN_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# The grammar that semver.org publishes for 2.0.0.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_CAPABILITY = re.compile(r"[a-z][a-z0-9.-]*(:[a-z][a-z0-9.-]*)?")
_LOCALE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_VERSION_CHARACTERS = 128


def _identifier(text: str) -> str:
    if not IDENTIFIER.fullmatch(text):
        raise ValueError("must be 1 to 63 of a-z 0-9 . _ - and begin with a letter or a digit")
    return text


def _foreign_identifier(text: str) -> str:
    if not _FOREIGN_IDENTIFIER.fullmatch(text):
        raise ValueError("must be 1 to 128 of A-Z a-z 0-9 . _ - and begin with a letter or a digit")
    return text


def _semver(text: str) -> str:
    if len(text) > _MOST_VERSION_CHARACTERS or not _SEMVER.fullmatch(text):
        raise ValueError("must be a semantic version, as in 1.4.0 or 2.0.0-rc.1")
    return text


def _capability(text: str) -> str:
    if not _CAPABILITY.fullmatch(text):
        raise ValueError("must be the name of a capability slot, as in secrets or extension:acme.billing")
    return text


def _locale(text: str) -> str:
    if not _LOCALE.fullmatch(text):
        raise ValueError("must be a language tag, as in en or pt-BR")
    return text


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError("must be sha256: and 64 lower-case hexadecimal digits")
    return text


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("holds a name twice")
    return names


Identifier = Annotated[StrictStr, AfterValidator(_identifier)]
ForeignIdentifier = Annotated[StrictStr, AfterValidator(_foreign_identifier)]
SemVer = Annotated[StrictStr, AfterValidator(_semver)]
Capabilities = Annotated[tuple[Annotated[StrictStr, AfterValidator(_capability)], ...], AfterValidator(_distinct)]
Locale = Annotated[StrictStr, AfterValidator(_locale)]
Digest = Annotated[StrictStr, AfterValidator(_digest)]


class BundleSource(Closed):
    """`bundle.yaml`: what a bundle is called. `entry` names the pack that runs, when more than one could."""

    bundle_id: Identifier
    bundle_name: StrictStr | None = None
    version: SemVer
    locale: Locale = "en"
    entry: Identifier | None = None


class PackManifest(Closed):
    """What a pack is, how its application runs, and what it asks for; never a setting of an environment.

    A pack of the reference (`manifest.cbor`, flows, WebAssembly) is represented with `kind` "reference", no
    application, and the version "0.0.0": this runtime cannot run it, but a bundle that holds one can be inspected and
    kept.
    """

    pack_id: ForeignIdentifier
    version: SemVer
    kind: Literal["application", "reference"] = "application"
    publisher: StrictStr | None = None
    application: Application | None = None
    health: Health = Health()
    capabilities: Capabilities = ()
    setup: tuple[SetupQuestion, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> PackManifest:
        if self.kind == "application" and self.application is None:
            raise ValueError("a pack of the kind application needs application, with a kind: asgi or process")
        if self.kind == "reference" and self.application is not None:
            raise ValueError("a pack with an application is of the kind application")
        names = [question.name for question in self.setup]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"setup asks {name} twice")
        return self

    @classmethod
    def of_reference(cls, pack_id: str) -> PackManifest:
        """The manifest that stands for a pack of the reference."""
        return cls(pack_id=pack_id, version=UNKNOWN_VERSION, kind="reference")

    @property
    def runnable(self) -> bool:
        """Whether this runtime can run the pack."""
        return self.application is not None

    def validate_answers(self, answers: Mapping[str, Any]) -> dict[str, Any]:
        """The answers to the pack's non-secret questions, with defaults filled in.

        Types are not converted: "8080" is no integer. A question that is not required, has no default and is not
        answered has no key in the result. Raises InvalidArgument, whose details list every problem as {"question",
        "problem"}: an unknown name, a value for a secret question, a missing required answer, a wrong type, a broken
        constraint.
        """
        return questions.validate_answers(self.pack_id, self.setup, answers)


class Open(BaseModel):
    """A document that others extend: unknown keys are let through and not kept."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class PackSummary(Open):
    """What the bundle manifest says of one pack, so that a reader need not open it. `path` is the archive's."""

    pack_id: ForeignIdentifier
    version: SemVer
    path: StrictStr
    application: StrictStr | None = None
    """The kind of application: "asgi", "process" or one that a later version knows; None for a reference pack."""
    health: Health = Health()
    capabilities: Capabilities = ()
    setup: tuple[SetupQuestion, ...] = ()


class BundleManifest(Open):
    """`bundle-manifest.json`. `version`, `entry` and `packs` are ours; a bundle of the reference lacks them."""

    format_version: StrictStr
    bundle_id: ForeignIdentifier
    bundle_name: StrictStr = ""
    requested_mode: StrictStr = "create"
    locale: StrictStr = "en"
    artifact_extension: StrictStr = ".gtbundle"
    generated_resolved_files: tuple[Any, ...] = ()
    generated_setup_files: tuple[Any, ...] = ()
    app_packs: tuple[StrictStr, ...] = ()
    extension_providers: tuple[StrictStr, ...] = ()
    catalogs: tuple[Any, ...] = ()
    hooks: tuple[Any, ...] = ()
    subscriptions: tuple[Any, ...] = ()
    capabilities: tuple[StrictStr, ...] = ()
    resolved_targets: tuple[Any, ...] = ()
    version: SemVer | None = None
    entry: ForeignIdentifier | None = None
    packs: tuple[PackSummary, ...] = ()


class LockedPack(Open):
    """A pack and the digest of its file. The digest is optional in bundles of the reference only."""

    reference: StrictStr
    digest: Digest | None = None


class BundleLock(Open):
    """`bundle-lock.json`: the digest of every pack. It names no tool and no time, so a rebuild gives the same bytes."""

    schema_version: StrictInt
    bundle_id: ForeignIdentifier
    requested_mode: StrictStr = "create"
    execution: StrictStr = "execute"
    cache_policy: StrictStr = "workspace-local"
    build_format_version: StrictStr = FORMAT_VERSION
    workspace_root: StrictStr = "bundle.yaml"
    lock_file: StrictStr = "bundle.lock.json"
    catalogs: tuple[Any, ...] = ()
    app_packs: tuple[LockedPack, ...] = ()
    extension_providers: tuple[LockedPack, ...] = ()
    setup_state_files: tuple[Any, ...] = ()


def is_foreign_identifier(text: str) -> bool:
    """Whether `text` can be the id of a bundle or pack that someone else made."""
    return _FOREIGN_IDENTIFIER.fullmatch(text) is not None
