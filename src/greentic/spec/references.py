"""Descriptors and reference URIs (reference 01, sections 1.4 and 1.5). The raw string is what stands in documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import MAX_OPAQUE, SEMVER
from greentic.spec.patterns import Matches

_PATH = re.compile(r"[a-z0-9.-]+")
_INSTANCE = re.compile(r"[a-z0-9-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class PackDescriptor:
    """An env-pack's name: `path@semver`, such as `greentic.deployer.k8s@1.0.0`."""

    path: str
    version: str

    def __str__(self) -> str:
        return f"{self.path}@{self.version}"

    @classmethod
    def parse(cls, text: str) -> PackDescriptor:
        """The descriptor in `text`; InvalidArgument with the reason otherwise."""
        try:
            return cls(*_split_descriptor(text))
        except ValueError as error:
            raise InvalidArgument(f"'{text}' is not an env-pack: {error}") from None


@dataclass(frozen=True, slots=True)
class SecretRef:
    """`secret://<env>/<rest>`: names a secret of one environment; never the value."""

    environment_id: str
    path: str

    @classmethod
    def parse(cls, text: str) -> SecretRef:
        """The reference in `text`; InvalidArgument with the reason otherwise."""
        # The text itself is never repeated: somebody may have written the secret where its reference belongs.
        try:
            return cls(*_environment_uri("secret://", text))
        except ValueError as error:
            raise InvalidArgument(f"not a secret reference: {error}") from None


@dataclass(frozen=True, slots=True)
class RuntimeRef:
    """`runtime://<env>/<path>`: names a value discovered at run time."""

    environment_id: str
    path: str

    @classmethod
    def parse(cls, text: str) -> RuntimeRef:
        """The reference in `text`; InvalidArgument with the reason otherwise."""
        try:
            return cls(*_environment_uri("runtime://", text))
        except ValueError as error:
            raise InvalidArgument(f"not a runtime reference: {error}") from None


@dataclass(frozen=True, slots=True)
class ExtensionRef:
    """`ext://<descriptor path>[/<instance>]`."""

    path: str
    instance: str | None

    @classmethod
    def parse(cls, text: str) -> ExtensionRef:
        """The reference in `text`; InvalidArgument with the reason otherwise."""
        if not text.startswith("ext://"):
            raise InvalidArgument(f"'{text}' must begin with ext://")
        path, slash, instance = text.removeprefix("ext://").partition("/")
        if not path or "." not in path or not _PATH.fullmatch(path):
            raise InvalidArgument(f"'{text}': '{path}' is not a descriptor path")
        if slash and not _INSTANCE.fullmatch(instance):
            raise InvalidArgument(f"'{text}': an instance holds only a-z, 0-9 and '-'")
        return cls(path, instance if slash else None)


def _split_descriptor(text: str) -> tuple[str, str]:
    path, at, version = text.partition("@")
    if not at:
        raise ValueError("it has no version; write path@semver, such as greentic.state.in-memory@0.1.0")
    if not path:
        raise ValueError("it has no path before the '@'")
    if "." not in path:
        raise ValueError("its path needs at least one dot (a name space), such as acme.state")
    if not _PATH.fullmatch(path):
        raise ValueError("its path may hold only a-z, 0-9, '.' and '-'")
    if not SEMVER.fullmatch(version):
        raise ValueError("what follows the '@' is not a semantic version")
    return path, version


def _environment_uri(scheme: str, text: str) -> tuple[str, str]:
    if not text.startswith(scheme):
        raise ValueError(f"it must begin with {scheme}")
    if _CONTROL.search(text):
        raise ValueError("it must not hold control characters")
    rest = text.removeprefix(scheme)
    if not rest:
        raise ValueError("it has no path")
    environment, _, path = rest.partition("/")
    if not environment:
        raise ValueError("it names no environment")
    return environment, path


def _descriptor(value: str) -> str:
    _split_descriptor(value)
    return value


def _secret(value: str) -> str:
    _environment_uri("secret://", value)
    return value


def _runtime(value: str) -> str:
    _environment_uri("runtime://", value)
    return value


def _instance(value: str) -> str:
    if not _INSTANCE.fullmatch(value):
        raise ValueError("an instance id holds only a-z, 0-9 and '-'")
    return value


Descriptor = Annotated[str, AfterValidator(_descriptor)]
SecretUri = Annotated[str, Field(max_length=MAX_OPAQUE), AfterValidator(_secret)]
RuntimeUri = Annotated[str, Field(max_length=MAX_OPAQUE), AfterValidator(_runtime)]
InstanceId = Annotated[str, AfterValidator(_instance)]
_INSIDE = r"(?:[^/.][^/]*|\.(?:[^/.][^/]*)?|\.\.[^/]+)?"
"""Any part of a path but `..`."""
RelativePath = Annotated[
    str,
    Field(max_length=MAX_OPAQUE),
    # Neither a root nor a drive letter at the beginning, and nowhere what another system takes for a slash.
    Matches(
        r"^(?:|[^/\\:\x00]|[^/\\:\x00][^\\:\x00]|[^/\\:\x00][^\\:\x00]{2}[^\\\x00]*)$",
        "must be a path relative to the environment's folder",
    ),
    Matches(f"^{_INSIDE}(?:/{_INSIDE})*$", "must stay inside the environment's folder"),
]
"""A path inside the environment's folder; judged by its text alone."""
