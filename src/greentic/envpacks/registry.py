"""The registry of env-packs: what is installed, loaded only when it is used.

Two ways lead into it. A Python distribution offers an env-pack by an entry point in the group `greentic.env_packs`: the
name is the descriptor path (`greentic.deployer.k8s`), the object a callable without arguments that returns an
`EnvPack`. An executable in any language is offered by its manifest among the installed executables (see
`greentic.envpacks.executables`). Built-ins register the first way, like any other (reference 03, section 1.5: one path,
one handler; built-ins cannot be shadowed): a path that two offer is served by neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from greentic.envpacks.deployer import Deployer, DeployerContext
from greentic.envpacks.versions import VersionRange
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment, PackBinding
from greentic.spec.errors import Conflict, GreenticError, NotFound, ProviderError
from greentic.spec.references import PackDescriptor

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from greentic.envpacks.bench import Bench
    from greentic.envpacks.credentials import Capability, DeployerCredentials
    from greentic.envpacks.executables import Executable
    from greentic.envpacks.preflight import ToolCheck
    from greentic.envpacks.revocation import Revocation, RevocationContext
    from greentic.envpacks.secrets import Secrets, SecretsContext
    from greentic.envpacks.sessions import Sessions
    from greentic.envpacks.state import State, StateContext
    from greentic.envpacks.telemetry import Telemetry

GROUP = "greentic.env_packs"


@dataclass(frozen=True, slots=True)
class EnvPack:
    """One installed env-pack.

    `versions` are the descriptor versions it serves, as a caret range such as `^0.1.0`. `deployer` makes the deployer,
    `secrets` the store of secrets, `state` that of state, `revocation` the list of what is revoked; `sessions` tells
    the routers where session pins are kept (in memory without it), `telemetry` where spans go; each is None for packs
    of other slots. `credentials` makes what a deployer needs to be allowed, `preflight` checks the tools it uses,
    `answers` gives the JSON Schema of a binding's answers. `admit` refuses an environment that may not use it. `bench`
    opens a clean place in a folder for the driving test of a deployer; without one it cannot be certified. `declares`
    is what it says that it must be allowed, where it has no `credentials` that could look. `opened_by` names the entry
    point of the routers' half, where that is another than the path. `executable` is what it is when it is no
    distribution.
    """

    path: str
    slot: Slot
    versions: str
    summary: str
    deployer: Callable[[DeployerContext], Deployer] | None = None
    secrets: Callable[[SecretsContext], Secrets] | None = None
    sessions: Callable[[], Sessions] | None = None
    credentials: Callable[[], DeployerCredentials] | None = None
    preflight: Callable[[], tuple[ToolCheck, ...]] | None = None
    telemetry: Callable[[], Telemetry] | None = None
    state: Callable[[StateContext], State] | None = None
    revocation: Callable[[RevocationContext], Revocation] | None = None
    answers: Callable[[], Mapping[str, Any]] | None = None
    admit: Callable[[Environment], None] | None = None
    bench: Callable[[Path], Bench] | None = None
    declares: tuple[Capability, ...] = ()
    opened_by: str | None = None
    executable: Executable | None = None

    @property
    def descriptor(self) -> str:
        """What is bound when somebody names the path alone: the version that `versions` begins with."""
        return f"{self.path}@{self.versions.removeprefix('^')}"

    def serves(self, version: str) -> bool:
        """Whether a binding of `version` is served."""
        return VersionRange.parse(self.versions).holds(version)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who offers an env-pack: a Python distribution, or an executable with its manifest. `place` is the entry point's
    object or the folder. Of an executable, `digest` is that of the manifest and `signed_by` are the ids of the keys
    that signed it; nobody signs a distribution here (None).
    """

    kind: Literal["distribution", "executable"]
    name: str
    version: str
    place: str
    signed_by: tuple[str, ...] | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.kind == "distribution" else f"the executable in {self.place}"


@dataclass(frozen=True, slots=True)
class Offer:
    """An env-pack that something installed here offers. `load` raises ProviderError when it cannot be loaded."""

    path: str
    load: Callable[[], EnvPack]
    origin: Callable[[], Origin | None] = lambda: None


class Registry:
    """Env-packs by path. What is installed is looked up once, when first needed; a pack's module is imported when that
    pack is asked for.
    """

    def __init__(self, offers: Mapping[str, Callable[[], EnvPack]] | None = None) -> None:
        """`offers` by path; None for what is installed."""
        self._given = None if offers is None else tuple(Offer(path, load) for path, load in offers.items())

    @classmethod
    def installed(cls) -> Registry:
        """The env-packs that are installed here."""
        return cls()

    def offers(self) -> tuple[Offer, ...]:
        """Everything that is offered, by path; a path stands twice when two offer it."""
        found = _installed() if self._given is None else self._given
        return tuple(sorted(found, key=lambda offer: offer.path))

    def paths(self) -> tuple[str, ...]:
        """The descriptor paths that are known, sorted."""
        return tuple(sorted({offer.path for offer in self.offers()}))

    def named(self, path: str) -> EnvPack | None:
        """The env-pack of that path, None when nothing installed offers it.

        ProviderError when it cannot be loaded, Conflict when two offer it.
        """
        found = [offer for offer in self.offers() if offer.path == path]
        if len(found) > 1:
            raise _twice(path, found)
        return found[0].load() if found else None

    def unknown(self, kind: str) -> NotFound:
        """The refusal of a kind that nothing installed offers, with what comes near."""
        from difflib import get_close_matches

        path, known = kind.partition("@")[0], self.paths()
        near = get_close_matches(path, known, n=1)
        return NotFound(
            f"no installed env-pack is named '{path}'" + (f"; did you mean {near[0]}?" if near else ""),
            details={"kind": kind, "known": list(known)},
            next_step="install the distribution that provides it, or an executable with gtc env-pack install; "
            "gtc op env-packs available lists what is there",
        )

    def resolve(self, kind: str, slot: Slot) -> EnvPack:
        """The env-pack of the descriptor `kind` for `slot`.

        NotFound when nothing installed offers it, Conflict when it fills another slot, serves other versions or is
        offered twice, ProviderError when it cannot be loaded.
        """
        descriptor = PackDescriptor.parse(kind)
        pack = self.named(descriptor.path)
        if pack is None:
            raise self.unknown(kind)
        if pack.slot is not slot:
            raise Conflict(
                f"'{descriptor.path}' fills the slot {pack.slot}, not {slot}",
                details={"kind": kind, "expected": slot.value, "actual": pack.slot.value},
                next_step=f"gtc op env-packs available {slot}",
            )
        if not pack.serves(descriptor.version):
            raise Conflict(
                f"'{descriptor.path}' as installed serves versions {pack.versions}, not {descriptor.version}",
                details={"kind": kind, "requested": descriptor.version, "supported": pack.versions},
                next_step=f"bind {pack.descriptor}, or install a release that serves {descriptor.version}",
            )
        return pack

    def bound(
        self, environment: Environment, slot: Slot, *, leaving: bool = False
    ) -> tuple[EnvPack, PackBinding] | None:
        """What fills `slot` in the environment, None when nothing does. As `resolve`; and, unless `leaving`, whatever
        refuses this environment.
        """
        binding = environment.binding(slot)
        if binding is None:
            return None
        pack = self.resolve(binding.kind, slot)
        if pack.admit is not None and not leaving:
            pack.admit(environment)
        return pack, binding

    def distrust(self, environment: Environment) -> GreenticError | None:
        """Why the environment's deployer may only be left; None when it is trusted, missing or not there at all."""
        try:
            self.bound(environment, Slot.DEPLOYER, leaving=True)
        except GreenticError:
            return None
        try:
            self.bound(environment, Slot.DEPLOYER)
        except GreenticError as error:
            return error
        return None

    def deployer(self, environment: Environment, context: DeployerContext, *, leaving: bool = False) -> Deployer:
        """The deployer that the environment is bound to; Conflict when the slot is empty. `leaving`: also one that the
        environment does not trust any more, to end with it or to look at what it left (see decision 20).
        """
        found = self.bound(environment, Slot.DEPLOYER, leaving=leaving)
        if found is None:
            raise Conflict(
                f"the environment '{environment.environment_id}' has no deployer: nothing can run there",
                next_step="create the environment with the local defaults, or bind an env-pack in the slot 'deployer'",
            )
        pack, binding = found
        if pack.deployer is None:
            raise ProviderError(f"'{binding.kind}' offers no deployer")
        return pack.deployer(context)

    def secrets(self, environment: Environment, context: SecretsContext) -> Secrets:
        """The store of secrets that the environment is bound to; Conflict when the slot is empty."""
        found = self.bound(environment, Slot.SECRETS)
        if found is None:
            raise Conflict(
                f"the environment '{environment.environment_id}' has no place for secrets",
                next_step="gtc op env-packs add secrets greentic.secrets.dev-store",
            )
        pack, binding = found
        if pack.secrets is None:
            raise ProviderError(f"'{binding.kind}' offers no store of secrets")
        return pack.secrets(context)

    def state(self, environment: Environment, context: StateContext) -> State:
        """The store of workers' values that the environment is bound to; Conflict when the slot is empty."""
        found = self.bound(environment, Slot.STATE)
        if found is None:
            raise Conflict(
                f"the environment '{environment.environment_id}' has no store of state: workers can keep nothing there",
                next_step="gtc op env-packs add state greentic.state.sqlite",
            )
        pack, binding = found
        if pack.state is None:
            raise ProviderError(f"'{binding.kind}' offers no store of state")
        return pack.state(context)

    def revocation(self, environment: Environment, context: RevocationContext) -> Revocation | None:
        """The list of what is revoked; None when the slot is empty."""
        found = self.bound(environment, Slot.REVOCATION)
        if found is None:
            return None
        pack, binding = found
        if pack.revocation is None:
            raise ProviderError(f"'{binding.kind}' offers no list of what is revoked")
        return pack.revocation(context)


@cache
def _installed() -> tuple[Offer, ...]:
    from importlib.metadata import entry_points

    offers = [Offer(point.name, _loader(point), partial(_distribution, point)) for point in entry_points(group=GROUP)]
    root = executables_location()
    if root is not None and root.is_dir():
        from greentic.envpacks import executables

        offers += executables.offers(root)
    return tuple(offers)


def executables_location(variables: Mapping[str, str] = os.environ) -> Path | None:
    """Where executables are installed: $GREENTIC_ENV_PACKS, else ~/.greentic/env-packs; None without a home folder."""
    named, home = variables.get("GREENTIC_ENV_PACKS"), variables.get("HOME")
    if named:
        return Path(named).absolute()
    return Path(home) / ".greentic" / "env-packs" if home else None


def _loader(point: EntryPoint) -> Callable[[], EnvPack]:
    @cache
    def load() -> EnvPack:
        try:
            pack = point.load()()
        except GreenticError as error:
            raise ProviderError(
                f"the env-pack '{point.name}' cannot be loaded: {error.message}",
                details={"entry_point": point.value},
                next_step=error.next_step,
            ) from error
        except Exception as error:
            raise ProviderError(
                f"the env-pack '{point.name}' cannot be loaded: {type(error).__name__}: {error}",
                details={"entry_point": point.value, "distribution": str(_distribution(point))},
                next_step=f"repair or uninstall {_distribution(point)}",
            ) from error
        return checked(pack, point.name, f"the entry point '{point.name}'")

    return load


def checked(pack: object, path: str, what: str) -> EnvPack:
    """`pack` when it is an env-pack named `path` whose range can be read; ProviderError otherwise."""
    if not isinstance(pack, EnvPack):
        raise ProviderError(f"{what} returns a {type(pack).__name__}, not an EnvPack")
    if pack.path != path:
        raise ProviderError(f"{what} returns an env-pack of another name, '{pack.path}'")
    try:
        VersionRange.parse(pack.versions)
        PackDescriptor.parse(pack.descriptor)
    except (ValueError, GreenticError) as error:
        raise ProviderError(f"{what} returns an env-pack that nobody could bind: {error}") from None
    return pack


def _distribution(point: EntryPoint) -> Origin:
    found = point.dist
    name, version = (found.name, found.version) if found is not None else ("an unknown distribution", "")
    return Origin("distribution", name, version, point.value)


def _twice(path: str, offers: list[Offer]) -> Conflict:
    origins = [str(offer.origin()) for offer in offers]
    return Conflict(
        f"'{path}' is offered by {' and by '.join(origins)}: neither is used",
        details={"path": path, "offered_by": origins},
        next_step="uninstall one of them",
    )
