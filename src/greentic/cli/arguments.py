"""Words to typed values: shares, overrides, durations, routes. Completion of names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from greentic.cli.invocation import store_root
from greentic.spec.errors import GreenticError, InvalidArgument

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from greentic.spec.deployment import Overrides, RouteBinding
    from greentic.spec.environment import Environment
    from greentic.spec.traffic import PinPolicy

_DURATION = re.compile(r"(\d{1,6})\s*(s|m|h|d)?", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, None: 1}


def seconds(text: str | int) -> int:
    """Seconds of `30`, `30s`, `5m`, `2h`, `1d`."""
    match = _DURATION.fullmatch(str(text).strip())
    if match is None:
        raise InvalidArgument(f"'{text}' is not a duration: write 30s, 5m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def pins(text: str | None) -> PinPolicy | None:
    """What becomes of pins, of `honour`, `evict` or `grace=5m`."""
    from greentic.spec.router_settings import LONGEST_PIN_SECONDS
    from greentic.spec.traffic import PinMode, PinPolicy

    if text is None:
        return None
    mode, equals, length = str(text).strip().partition("=")
    if mode == PinMode.GRACE and equals:
        grace = seconds(length)
        if not 1 <= grace <= LONGEST_PIN_SECONDS:
            raise InvalidArgument(f"a grace lasts 1 second to {LONGEST_PIN_SECONDS // 86_400} days, not {length}")
        return PinPolicy(mode=PinMode.GRACE, grace_seconds=grace)
    if equals or mode not in {PinMode.HONOUR, PinMode.EVICT}:
        raise InvalidArgument(f"'{text}' says nothing about pins: write honour, evict, or a grace such as grace=5m")
    return PinPolicy(mode=PinMode(mode))


def shares(words: Sequence[str | Mapping[str, Any]]) -> list[tuple[str, int | None]]:
    """(revision as named, basis points or None for the rest) of `v2=1% rest=v1`, or of an answers file's entries."""
    from greentic.spec.weights import parse_share

    found: list[tuple[str, int | None]] = []
    for word in words:
        if isinstance(word, Mapping):
            found.append(_entry(word))
            continue
        left, equals, right = word.partition("=")
        if not equals or not left.strip() or not right.strip():
            raise InvalidArgument(
                f"'{word}' is not a share",
                next_step="write REVISION=SHARE, such as v2=1%, and rest=REVISION for what is left",
            )
        if left.strip() == "rest":
            found.append((right.strip(), None))
        else:
            found.append((left.strip(), parse_share(right)))
    return found


def _entry(entry: Mapping[str, Any]) -> tuple[str, int | None]:
    from greentic.spec.identifiers import BASIS_POINTS

    known = {"revision_id", "weight_bps", "weight_percent"}
    if not set(entry) <= known or not isinstance(entry.get("revision_id"), str):
        raise InvalidArgument("an entry holds revision_id and weight_bps or weight_percent, nothing else")
    weight, unit = (
        (entry["weight_bps"], 1) if entry.get("weight_bps") is not None else (entry.get("weight_percent"), 100)
    )
    if not isinstance(weight, int) or isinstance(weight, bool) or not 0 <= weight * unit <= BASIS_POINTS:
        raise InvalidArgument(f"the weight of {entry['revision_id']} must be a whole number from 0 to everything")
    return entry["revision_id"], weight * unit


def overrides(
    plain: Sequence[str], typed: Sequence[str], file: Path | None, given: Mapping[str, Any] | None = None
) -> Overrides | None:
    """Parameters by pack and key of `PACK:KEY=TEXT`, `PACK:KEY=JSON` and a file; None when there are none."""
    found: dict[str, dict[str, Any]] = {}
    if file is not None:
        from greentic.cli.invocation import read_answers

        given = {**(given or {}), **read_answers(str(file))}
    for pack, values in (given or {}).items():
        if not isinstance(values, Mapping):
            raise InvalidArgument(f"the parameters of the pack '{pack}' must be a mapping of names to values")
        found.setdefault(pack, {}).update(values)
    for word in plain:
        pack, key, value = _override(word)
        found.setdefault(pack, {})[key] = value
    for word in typed:
        pack, key, value = _override(word)
        try:
            found.setdefault(pack, {})[key] = json.loads(value)
        except ValueError as error:
            raise InvalidArgument(f"the value of {pack}:{key} is not JSON: {error}") from None
    return found or None


def _override(word: str) -> tuple[str, str, str]:
    name, equals, value = word.partition("=")
    pack, colon, key = name.partition(":")
    if not equals or not colon or not pack or not key:
        raise InvalidArgument(f"'{word}' is not a parameter", next_step="write PACK:KEY=VALUE")
    return pack, key, value


def route(
    hosts: Sequence[str], prefixes: Sequence[str], tenant: str | None, team: str | None, given: Any = None
) -> RouteBinding | None:
    """A route binding of the options, or of an answers file; None when nothing is said."""
    from greentic.spec.deployment import RouteBinding, TenantSelector
    from greentic.spec.parsing import parse_payload

    if given is not None:
        return parse_payload(RouteBinding, given, "route_binding")
    if not hosts and not prefixes and tenant is None and team is None:
        return None
    if team is not None and tenant is None:
        raise InvalidArgument("--team needs --tenant")
    selector = TenantSelector(tenant=tenant or "default", team=team or "default")
    return RouteBinding(hosts=tuple(hosts), path_prefixes=tuple(prefixes), tenant_selector=selector)


def route_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a route."""
    for option in (
        click.option("--team", metavar="TEAM", help="Team of the tenant. [default: default]"),
        click.option("--tenant", metavar="TENANT", help="Whom requests are for. [default: default]"),
        click.option("--path-prefix", "path_prefixes", multiple=True, metavar="/PATH", help="Serve below this path."),
        click.option("--host", "hosts", multiple=True, metavar="NAME", help="Serve this host."),
    ):
        command = option(command)
    return command


def parameter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that give parameters to packs."""
    for option in (
        click.option(
            "--config-overrides-from",
            "config_file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Parameters by pack from a YAML or JSON file.",
        ),
        click.option(
            "--config-override-json",
            "config_json",
            multiple=True,
            metavar="PACK:KEY=JSON",
            help="A parameter of any type.",
        ),
        click.option(
            "--config-override", "config", multiple=True, metavar="PACK:KEY=TEXT", help="A parameter that is text."
        ),
    ):
        command = option(command)
    return command


def environment_of(context: click.Context) -> Environment | None:
    """The environment a completion asks about; None when it cannot be read."""
    import os

    from greentic.store.files import FilesStore

    if context.params.get("store_url") or os.environ.get("GREENTIC_STORE_URL"):
        return None  # a server is not asked at each press of a key
    name = context.params.get("environment") or os.environ.get("GREENTIC_ENV") or "local"
    try:
        return FilesStore(store_root(context.params.get("root"))).load(name).environment
    except GreenticError:
        return None


def complete_deployment(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The deployments that begin with what is typed."""
    from click.shell_completion import CompletionItem

    environment = environment_of(context)
    names = [] if environment is None else [found.bundle_id for found in environment.bundles]
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def complete_revision(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The revisions of the deployment typed before, and the aliases."""
    from click.shell_completion import CompletionItem

    environment = environment_of(context)
    if environment is None:
        return []
    said = context.params.get("deployment")
    words: tuple[str, ...] = context.params.get("words") or ()
    if said is None and parameter.name == "words" and not words:
        return complete_deployment(context, parameter, incomplete)
    wanted = said or words[0]
    found = [
        CompletionItem(f"v{revision.sequence}", help=revision.lifecycle.value)
        for deployment in environment.bundles
        if deployment.bundle_id == wanted
        for revision in environment.revisions_of(deployment.deployment_id)
    ]
    found += [CompletionItem(alias) for alias in ("@latest", "@previous", "@live")]
    return [item for item in found if item.value.startswith(incomplete)]


def complete_share(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The deployment first, then its revisions up to the equals sign."""
    from click.shell_completion import CompletionItem

    left, equals, right = incomplete.partition("=")
    if equals and left != "rest":
        return []
    found = complete_revision(context, parameter, right if equals else left)
    if equals:
        return [CompletionItem(f"rest={item.value}") for item in found]
    if not context.params.get("words"):
        return found
    shares = [CompletionItem(f"{item.value}=", help=item.help) for item in found]
    return [*shares, *([CompletionItem("rest=")] if "rest".startswith(left) else [])]
