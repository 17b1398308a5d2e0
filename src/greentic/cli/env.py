"""`gtc op env`: environments."""

from __future__ import annotations

import json
from typing import Any

import click

from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import LazyGroup

FURTHER = {
    "plan": ("greentic.cli.manifest:plan", "Show what applying one file would do, and the token of that plan."),
    "apply": ("greentic.cli.manifest:apply", "Make an environment as one file describes it."),
    "diff": ("greentic.cli.manifest:diff", "Show the manifest, the record and what is live side by side."),
    "export": ("greentic.cli.manifest:export", "Write a manifest of a living environment."),
    "migrate-dev": ("greentic.cli.migrate:migrate_dev", "Move the bindings of the old environment `dev`, once."),
    "migrate-state": ("greentic.cli.migrate:migrate_state", "Put the old deployment state aside, once."),
    "doctor": ("greentic.cli.doctor:doctor", "Check everything; each finding comes with its fix."),
    "tool-check": ("greentic.cli.preflight:tool_check", "Check the tools that the bound env-packs use."),
    "repair": ("greentic.cli.doctor:repair", "Mend what can be mended without guessing."),
}


@click.group(cls=LazyGroup, table=FURTHER)
def env() -> None:
    """Environments: the places where workers run."""


SETTINGS = ("region", "tenant_org_id", "listen_addr", "public_base_url", "gui_enabled", "stamp_revision")
HOST = {name: name for name in ("name", *SETTINGS)}


def _host_options(command: Any) -> Any:
    for option in (
        click.option(
            "--stamp-revision/--no-stamp-revision",
            default=None,
            help="Tell clients in x-greentic-revision which revision answered. [default: no]",
        ),
        click.option("--gui/--no-gui", "gui_enabled", default=None, help="Serve the built-in pages."),
        click.option("--public-url", "public_base_url", metavar="URL", help="Where the world reaches the environment."),
        click.option(
            "--listen-addr",
            "listen_addr",
            metavar="IP:PORT",
            help="Where the router listens. [default: 127.0.0.1:8080]",
        ),
        click.option("--tenant-org", "tenant_org_id", metavar="ID", help="The organisation it belongs to."),
        click.option("--region", metavar="REGION", help="Where it is."),
    ):
        command = option(command)
    return command


def _environment_argument(command: Any) -> Any:
    return click.argument("name_of_environment", metavar="ENV", required=False)(command)


def _named(invocation: Invocation, name: str | None) -> str:
    """The positional ENV wins over --env; without either it is a usage error, for these verbs are about one."""
    from greentic.spec.identifiers import environment_id

    return environment_id(str(need(name or invocation.environment, "argument 'ENV'")))


@env.command()
@_environment_argument
@_host_options
@verb(
    "env",
    "init",
    changes=True,
    view=lambda result: _view_init(result),
    answers={name: name for name in SETTINGS},
)
def init(invocation: Invocation, name_of_environment: str | None, **host: Any) -> Any:
    """Create the environment `local` (or ENV) with the defaults of one machine; leave it alone when it exists."""
    from greentic.operations import environments
    from greentic.spec.parsing import parse_payload
    from greentic.spec.payloads import HostSettings

    name = name_of_environment or invocation.environment_id
    settings = parse_payload(HostSettings, host, "environment")
    return environments.init(invocation.context(), name, **settings.model_dump())


@env.command()
@_environment_argument
@click.option("--name", "title", metavar="TEXT", help="A name for people. [default: the id]")
@click.option("--bare", is_flag=True, help="Bind no env-packs: nothing can run there until a deployer is bound.")
@_host_options
@verb(
    "env",
    "create",
    changes=True,
    view=lambda result: _view_created(result),
    answers={**HOST, "name": "title", "environment_id": "name_of_environment"},
)
def create(invocation: Invocation, name_of_environment: str | None, title: str | None, bare: bool, **host: Any) -> Any:
    """Create an environment; it can run workers on this machine unless --bare."""
    from greentic.operations import environments
    from greentic.spec.parsing import parse_payload
    from greentic.spec.payloads import DEFAULT_PACKS, CreateEnvironmentPayload

    name = _named(invocation, name_of_environment)
    document = {
        **{field: value for field, value in host.items() if value is not None},
        "environment_id": name,
        "name": title or name,
        "packs": [] if bare else [pack.to_json() for pack in DEFAULT_PACKS],
    }
    return environments.create(invocation.context(), parse_payload(CreateEnvironmentPayload, document, "environment"))


@env.command()
@_environment_argument
@click.option("--name", "title", metavar="TEXT", help="A name for people.")
@click.option(
    "--clear", "cleared", multiple=True, metavar="FIELD", help="Unset a host setting, such as --clear region."
)
@_host_options
@verb(
    "env",
    "update",
    changes=True,
    view=lambda result: _view_updated(result),
    answers={**HOST, "name": "title", "environment_id": "name_of_environment"},
)
def update(
    invocation: Invocation, name_of_environment: str | None, title: str | None, cleared: tuple[str, ...], **host: Any
) -> Any:
    """Change the name or host settings of an environment; what is not named stays."""
    from greentic.operations import environments
    from greentic.spec.errors import InvalidArgument
    from greentic.spec.parsing import parse_payload
    from greentic.spec.payloads import UpdateEnvironmentPayload

    known = set(host)
    unset = {field.replace("-", "_") for field in cleared}
    if not unset <= known:
        raise InvalidArgument(f"--clear takes {', '.join(sorted(known))}, not {', '.join(sorted(unset - known))}")
    document: dict[str, Any] = {field: {"value": value} for field, value in host.items() if value is not None}
    if unset & set(document):
        raise InvalidArgument(f"{', '.join(sorted(unset & set(document)))} cannot be set and cleared at once")
    document |= {field: {"clear": True} for field in unset}
    if title is not None:
        document["name"] = title
    if not document:
        raise InvalidArgument("nothing to change was named", next_step="gtc op env update --help")
    payload = parse_payload(UpdateEnvironmentPayload, document, "environment")
    return environments.update(invocation.context(), _named(invocation, name_of_environment), payload)


@env.command("set-public-url")
@_environment_argument
@click.argument("url", required=False)
@verb(
    "env", "set-public-url", changes=True, view=lambda result: _view_updated(result), answers={"public_base_url": "url"}
)
def set_public_url(invocation: Invocation, name_of_environment: str | None, url: str | None) -> Any:
    """Say where the world reaches the environment."""
    from greentic.operations import environments
    from greentic.spec.parsing import parse_payload
    from greentic.spec.payloads import UpdateEnvironmentPayload

    document = {"public_base_url": {"value": need(url, "argument 'URL'")}}
    payload = parse_payload(UpdateEnvironmentPayload, document, "environment")
    return environments.update(invocation.context(), _named(invocation, name_of_environment), payload)


@env.command("list")
@verb("env", "list", view=lambda result: _view_list(result))
def list_(invocation: Invocation) -> Any:
    """List the environments; a corrupt one is shown with what is wrong."""
    from greentic.operations import environments

    return environments.list_(invocation.context())


@env.command()
@_environment_argument
@verb("env", "show", view=lambda result: click.echo(json.dumps(result, indent=2, ensure_ascii=False)))
def show(invocation: Invocation, name_of_environment: str | None) -> Any:
    """Show the whole document of an environment."""
    from greentic.operations import environments

    return environments.show(invocation.context(), name_of_environment or invocation.environment_id)


def _view_init(result: Any) -> None:
    from greentic.cli.tables import line

    done = {
        "created": "created",
        "healed": "exists already, and now trusts your operator key:",
        "untouched": "exists already, left as it is:",
    }[result["outcome"]]
    line(f"environment {result['environment_id']} {done} ({_listens(result)})")


def _view_created(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"environment {result['environment_id']} created ({_listens(result)}, generation {result['generation']})")


def _view_updated(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"environment {result['environment_id']} updated ({_listens(result)}, generation {result['generation']})")


def _listens(result: Any) -> str:
    from greentic.spec.environment import DEFAULT_LISTEN_ADDRESS

    return f"{result['pack_count']} env-packs, listens on {result['listen_addr'] or DEFAULT_LISTEN_ADDRESS}"


def _view_list(result: Any) -> None:
    from greentic.cli.tables import line, table

    if not result["environments"]:
        line("no environments yet; create one with: gtc op env init")
        return
    table(
        ("ENVIRONMENT", "NAME", "LISTENS", "PACKS", "DEPLOYMENTS", "REVISIONS", "GENERATION"),
        [
            (row["environment_id"], row["error"]["message"], "", "", "", "", "corrupt")
            if "error" in row
            else (
                row["environment_id"],
                row["name"],
                row["listen_addr"],
                row["pack_count"],
                row["bundle_count"],
                row["revision_count"],
                row["generation"],
            )
            for row in result["environments"]
        ],
    )
