"""What a check is: a name, a profile, a sentence that says what it proves, and a function that looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from greentic.conformance.stage import Stage

PROFILES: Final = ("core", "traffic", "drain", "tenancy", "credentials", "faults")

Look = Callable[["Stage"], Awaitable[str]]
"""Looks at a stage of its own: what was seen, in a sentence. Raises Failed with what was seen instead."""


class Failed(AssertionError):
    """A check that was not passed; the message says what was seen."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `proves` completes the sentence "the deployer …"; it ends within `seconds`."""

    name: str
    profile: str
    proves: str
    look: Look
    seconds: float


_CHECKS: dict[str, Check] = {}


def check(profile: str, proves: str, seconds: float = 60.0) -> Callable[[Look], Look]:
    """Declare a function as a check of `profile`, under its own name."""

    def declare(look: Look) -> Look:
        name = f"{profile}.{look.__name__.replace('_', '-')}"
        _CHECKS[name] = Check(name, profile, proves, look, seconds)
        return look

    return declare


def checks(profiles: tuple[str, ...] = PROFILES) -> tuple[Check, ...]:
    """The checks of `profiles`, in the order of profiles and of their declaration."""
    from greentic.conformance.checks import core, credentials, drain, faults, tenancy, traffic  # noqa: F401

    return tuple(one for profile in profiles for one in _CHECKS.values() if one.profile == profile)


def expect(condition: object, otherwise: str) -> None:
    """Failed with `otherwise` unless `condition` holds."""
    if not condition:
        raise Failed(otherwise)
