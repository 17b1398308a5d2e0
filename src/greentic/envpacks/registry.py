"""The registry of env-packs: what is installed, found by entry points, loaded only when used.

A distribution offers an env-pack by an entry point in the group `greentic.env_packs`: the name is the descriptor path
(`greentic.deployer.k8s`), the object a callable without arguments that returns an `EnvPack`. Built-ins register the
same way (reference 03, section 1.5: one path, one handler; built-ins cannot be shadowed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, NotFound, ProviderError
from greentic.spec.references import PackDescriptor

if TYPE_CHECKING:
    from greentic.envpacks.credentials import DeployerCredentials
    from greentic.envpacks.preflight import ToolCheck
    from greentic.envpacks.secrets import Secrets, SecretsContext

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "greentic.env_packs"


@dataclass(frozen=True, slots=True)
class EnvPack:
    """One installed env-pack.

    `versions` are the descriptor versions it serves, as a caret range such as `^0.1.0`. `deployer` makes the deployer,
    `secrets` the store of secrets; each is None for packs of other slots. `credentials` makes what a deployer needs to
    be allowed, `preflight` checks the tools it uses.
    """

    path: str
    slot: Slot
    versions: str
    summary: str
    deployer: Callable[[DeployerContext], Deployer] | None = None
    secrets: Callable[[SecretsContext], Secrets] | None = None
    credentials: Callable[[], DeployerCredentials] | None = None
    preflight: Callable[[], tuple[ToolCheck, ...]] | None = None

    @property
    def descriptor(self) -> str:
        """What is bound when somebody names the path alone: the version that `versions` begins with."""
        return f"{self.path}@{self.versions.removeprefix('^')}"

    def serves(self, version: str) -> bool:
        """Whether a binding of `version` is served."""
        return _caret(self.versions, version)


class Registry:
    """Env-packs by path. Entry points are read once; a pack's module is imported when that pack is asked for."""

    def __init__(self, offers: Mapping[str, Callable[[], EnvPack]] | None = None) -> None:
        """`offers` by path; None for those of the installed distributions, looked up when first needed."""
        self._given = offers

    @classmethod
    def installed(cls) -> Registry:
        """The env-packs of the distributions that are installed here."""
        return cls()

    @property
    def _offers(self) -> Mapping[str, Callable[[], EnvPack]]:
        return _installed() if self._given is None else self._given

    def paths(self) -> tuple[str, ...]:
        """The descriptor paths that are known, sorted."""
        return tuple(sorted(self._offers))

    def named(self, path: str) -> EnvPack | None:
        """The env-pack of that path, None when no installed distribution offers it; ProviderError."""
        offer = self._offers.get(path)
        return None if offer is None else offer()

    def resolve(self, kind: str, slot: Slot) -> EnvPack:
        """The env-pack of the descriptor `kind` for `slot`.

        NotFound when no installed distribution offers it, Conflict when it fills another slot or serves other versions,
        ProviderError when it cannot be loaded.
        """
        descriptor = PackDescriptor.parse(kind)
        offer = self._offers.get(descriptor.path)
        if offer is None:
            raise NotFound(
                f"no installed env-pack is named '{descriptor.path}'",
                details={"kind": kind, "known": list(self.paths())},
                next_step="install the Python distribution that provides it, or bind another kind: "
                + ", ".join(self.paths()),
            )
        pack = offer()
        if pack.slot is not slot:
            raise Conflict(
                f"'{descriptor.path}' fills the slot {pack.slot}, not {slot}",
                details={"kind": kind, "expected": slot.value, "actual": pack.slot.value},
            )
        if not pack.serves(descriptor.version):
            raise Conflict(
                f"'{descriptor.path}' serves versions {pack.versions}, not {descriptor.version}",
                details={"kind": kind, "requested": descriptor.version, "supported": pack.versions},
            )
        return pack

    def deployer(self, environment: Environment, context: DeployerContext) -> Deployer:
        """The deployer that the environment is bound to; Conflict when the slot is empty."""
        binding = environment.binding(Slot.DEPLOYER)
        if binding is None:
            raise Conflict(
                f"the environment '{environment.environment_id}' has no deployer: nothing can run there",
                next_step="create the environment with the local defaults, or bind an env-pack in the slot 'deployer'",
            )
        pack = self.resolve(binding.kind, Slot.DEPLOYER)
        if pack.deployer is None:
            raise ProviderError(f"'{binding.kind}' offers no deployer")
        return pack.deployer(context)

    def secrets(self, environment: Environment, context: SecretsContext) -> Secrets:
        """The store of secrets that the environment is bound to; Conflict when the slot is empty."""
        binding = environment.binding(Slot.SECRETS)
        if binding is None:
            raise Conflict(
                f"the environment '{environment.environment_id}' has no place for secrets",
                next_step="gtc op env-packs add secrets greentic.secrets.dev-store",
            )
        pack = self.resolve(binding.kind, Slot.SECRETS)
        if pack.secrets is None:
            raise ProviderError(f"'{binding.kind}' offers no store of secrets")
        return pack.secrets(context)


@cache
def _installed() -> Mapping[str, Callable[[], EnvPack]]:
    from importlib.metadata import entry_points

    offers: dict[str, Callable[[], EnvPack]] = {}
    for point in entry_points(group=GROUP):
        if point.name in offers:
            raise Conflict(
                f"two installed distributions offer the env-pack '{point.name}'",
                next_step="uninstall one of them",
            )
        offers[point.name] = _loader(point)
    return offers


def _loader(point: EntryPoint) -> Callable[[], EnvPack]:
    @cache
    def load() -> EnvPack:
        try:
            pack = point.load()()
        except Exception as error:
            raise ProviderError(
                f"the env-pack '{point.name}' cannot be loaded: {error}",
                details={"entry_point": point.value},
            ) from error
        if not isinstance(pack, EnvPack) or pack.path != point.name:
            raise ProviderError(f"the entry point '{point.name}' does not return an EnvPack of that path")
        return pack

    return load


def _caret(requirement: str, version: str) -> bool:
    """Semantic-version caret: the left-most non-zero part must agree and the rest be at least as new."""
    wanted = [int(part) for part in requirement.removeprefix("^").split("-")[0].split(".")]
    actual = [int(part) for part in version.split("+")[0].split("-")[0].split(".")]
    fixed = next((index for index, part in enumerate(wanted) if part), 2) + 1
    return actual[:fixed] == wanted[:fixed] and actual >= wanted
