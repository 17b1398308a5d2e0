"""Descriptors and reference URIs (reference 01, sections 1.4 and 1.5). The raw string is what stands in documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import SEMVER

_PATH = re.compile(r"[a-z0-9.-]+")
_INSTANCE = re.compile(r"[a-z0-9-]+")


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
        path, at, version = text.partition("@")
        if not at:
            raise InvalidArgument(f"'{text}' has no version: write path@semver, such as greentic.state.in-memory@0.1.0")
        if not path:
            raise InvalidArgument(f"'{text}' has no path before the '@'")
        if "." not in path:
            raise InvalidArgument(f"'{text}': the path needs at least one dot (a name space), such as acme.{path}")
        if not _PATH.fullmatch(path):
            raise InvalidArgument(f"'{text}': a path holds only a-z, 0-9, '.' and '-'")
        if not SEMVER.fullmatch(version):
            raise InvalidArgument(f"'{text}': '{version}' is not a semantic version")
        return cls(path, version)


@dataclass(frozen=True, slots=True)
class SecretRef:
    """`secret://<env>/<rest>`: names a secret of one environment; never the value."""

    environment_id: str
    path: str

    @classmethod
    def parse(cls, text: str) -> SecretRef:
        """The reference in `text`; InvalidArgument with the reason otherwise."""
        return cls(*_environment_uri("secret://", text))


@dataclass(frozen=True, slots=True)
class RuntimeRef:
    """`runtime://<env>/<path>`: names a value discovered at run time."""

    environment_id: str
    path: str

    @classmethod
    def parse(cls, text: str) -> RuntimeRef:
        """The reference in `text`; InvalidArgument with the reason otherwise."""
        return cls(*_environment_uri("runtime://", text))


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


def _environment_uri(scheme: str, text: str) -> tuple[str, str]:
    if not text.startswith(scheme):
        raise InvalidArgument(f"'{text}' must begin with {scheme}")
    rest = text.removeprefix(scheme)
    if not rest:
        raise InvalidArgument(f"'{text}' has no path")
    environment, _, path = rest.partition("/")
    if not environment:
        raise InvalidArgument(f"'{text}' names no environment")
    return environment, path


def _descriptor(value: str) -> str:
    return _checked(PackDescriptor, value)


def _secret(value: str) -> str:
    return _checked(SecretRef, value)


def _runtime(value: str) -> str:
    return _checked(RuntimeRef, value)


def _checked(kind: type[PackDescriptor] | type[SecretRef] | type[RuntimeRef], value: str) -> str:
    try:
        kind.parse(value)
    except InvalidArgument as error:
        raise ValueError(error.message) from None
    return value


def _instance(value: str) -> str:
    if not _INSTANCE.fullmatch(value):
        raise ValueError("an instance id holds only a-z, 0-9 and '-'")
    return value


def _relative_path(value: str) -> str:
    if value.startswith(("/", "\\")) or "\x00" in value or "\\" in value or ":" in value[:3]:
        raise ValueError("must be a path relative to the environment's folder")
    if ".." in value.split("/"):
        raise ValueError("must stay inside the environment's folder")
    return value


Descriptor = Annotated[str, AfterValidator(_descriptor)]
SecretUri = Annotated[str, AfterValidator(_secret)]
RuntimeUri = Annotated[str, AfterValidator(_runtime)]
InstanceId = Annotated[str, AfterValidator(_instance)]
RelativePath = Annotated[str, AfterValidator(_relative_path)]
"""A path inside the environment's folder; judged by its text alone."""
