"""`gtc env-pack`: write, seal and install env-packs; `gtc op env-packs` binds them in an environment."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun

FOLDER = click.Path(path_type=Path)


@click.group("env-pack", cls=Noun)
def env_pack() -> None:
    """Write, seal and install env-packs: the plug-ins that fill an environment's capability slots."""


@env_pack.command()
@click.argument("path", metavar="ENV-PACK", required=False)
@click.argument("folder", type=FOLDER, required=False)
@click.option("--slot", metavar="SLOT", help="What it fills. [default: the second part of its name, else deployer]")
@click.option(
    "--language",
    type=click.Choice(["python", "executable"]),
    default="python",
    show_default=True,
    help="A Python distribution, or a program of its own.",
)
@verb("env-pack", "new", view=lambda result: _view_new(result))
def new(invocation: Invocation, path: str | None, folder: Path | None, slot: str | None, language: str) -> Any:
    """Write the project of a new env-pack that works: its package, its tests. FOLDER is its name unless you say."""
    from greentic.cli.bindings import slot_of
    from greentic.envpacks import scaffold

    name = need(path, "argument 'ENV-PACK'")
    wanted = scaffold.slot_of(name) if slot is None else slot_of(slot)
    place = Path(folder or name)
    written = scaffold.new(place, name, wanted, language)
    return {"path": name, "slot": wanted.value, "folder": str(place), "files": [str(file) for file in written]}


@env_pack.command()
@click.argument("folder", type=FOLDER, required=False)
@click.option("--no-signature", is_flag=True, help="Write the digests only; whoever installs it must vouch for it.")
@verb("env-pack", "seal", view=lambda result: _view_sealed(result))
def seal(invocation: Invocation, folder: Path | None, no_signature: bool) -> Any:
    """Write the digest of every file into FOLDER's env-pack.json and sign it with your operator key."""
    from greentic.operations import executables

    return executables.seal(Path(need(folder, "argument 'FOLDER'")), signed=not no_signature)


@env_pack.command()
@click.argument("folder", type=FOLDER, required=False)
@click.option("--unsigned", is_flag=True, help="Install it although nobody trusted signed it: you vouch for it.")
@verb("env-pack", "install", view=lambda result: _view_installed(result))
def install(invocation: Invocation, folder: Path | None, unsigned: bool) -> Any:
    """Install the executable env-pack in FOLDER, signed by a key that the environment (--env) trusts."""
    from greentic.operations import executables

    return executables.install(
        invocation.context(), invocation.environment_id, Path(need(folder, "argument 'FOLDER'")), unsigned=unsigned
    )


@env_pack.command()
@click.argument("path", metavar="ENV-PACK", required=False)
@click.option("--force", is_flag=True, help="Also when environments are bound to it.")
@verb("env-pack", "uninstall", view=lambda result: _view_uninstalled(result))
def uninstall(invocation: Invocation, path: str | None, force: bool) -> Any:
    """Take an executable env-pack away."""
    from greentic.operations import executables

    return executables.uninstall(invocation.context(), need(path, "argument 'ENV-PACK'"), force=force)


def _view_new(result: Any) -> None:
    from greentic.cli.tables import line

    for path in result["files"]:
        line(f"  {path}")
    program = any(path.endswith("/env-pack.json") for path in result["files"])
    folder = shlex.quote(result["folder"])
    following = f"gtc env-pack seal {folder}" if program else f"pip install --editable {folder}"
    line(f"a working env-pack for the slot {result['slot']}; its README.md says more. Next: ", (following, "bold"))


def _view_sealed(result: Any) -> None:
    from greentic.cli.tables import line

    line((f"{result['path']} {result['version']}", "bold"), f"  {result['files']} files  {result['manifest_digest']}")
    if result["signed_by"] is None:
        line(("not signed", "yellow"), ": it can be installed with --unsigned only")
    else:
        line(f"signed by {result['signed_by']}; who trusts {result['public_key_file']} can install it")


def _view_installed(result: Any) -> None:
    from greentic.cli.tables import line

    if "warning" in result:
        line(("WARNING: ", "red"), result["warning"])
    done = "stands already" if not result["changed"] else "installed"
    instead = f" instead of {result['replaced']}" if result["changed"] and result["replaced"] else ""
    line((f"{result['path']} {result['version']}", "bold"), f" {done}{instead}")
    if result["signed_by"]:
        line(f"signed by {', '.join(result['signed_by'])}")
    if result["variables"]:
        line(f"is given of your environment: {', '.join(result['variables'])}")
    line("bind it with: ", (f"gtc op env-packs update {result['slot']} {result['path']}", "bold"))


def _view_uninstalled(result: Any) -> None:
    from greentic.cli.tables import line

    line((f"{result['path']} {result['version']}", "bold"), " is gone")
    if result["bound_in"]:
        line((f"still bound in {', '.join(result['bound_in'])}", "yellow"))
