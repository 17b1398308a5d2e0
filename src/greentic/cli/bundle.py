"""`gtc bundle`: write, build and check bundles."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from greentic.cli.invocation import Invocation, need, verb
from greentic.cli.nouns import Noun

FILE = click.Path(path_type=Path)


@click.group(cls=Noun)
def bundle() -> None:
    """Write, build and check bundles: the packaged workers."""


@bundle.command()
@click.argument("folder", type=FILE, required=False)
@click.option("--id", "bundle_id", metavar="ID", help="The bundle's id. [default: the folder's name]")
@click.option("--kind", type=click.Choice(["asgi", "process"]), default="asgi", show_default=True, help="How it runs.")
@verb("bundle", "init", view=lambda result: _view_init(result))
def init(invocation: Invocation, folder: Path | None, bundle_id: str | None, kind: str) -> Any:
    """Write the skeleton of a worker that runs: a small assistant with a health path."""
    from greentic.bundles.scaffold import init as write

    place = Path(need(folder, "argument 'FOLDER'"))
    written = write(place, bundle_id or place.resolve().name, kind)
    return {"folder": str(place), "files": [str(path) for path in written]}


@bundle.command()
@click.argument("source", type=FILE, metavar="FOLDER", required=False)
@click.option("--output", "-o", type=FILE, metavar="FILE", help="[default: ID-VERSION.gtbundle here]")
@verb("bundle", "build", view=lambda result: _view_built(result))
def build(invocation: Invocation, source: Path | None, output: Path | None) -> Any:
    """Build FOLDER (with its bundle.yaml) into one archive: same inputs, same bytes, same digest."""
    from greentic.bundles.build import build as make

    return _plain(asdict(make(Path(need(source, "argument 'FOLDER'")), output)))


@bundle.command()
@click.argument("archive", type=FILE, metavar="FILE", required=False)
@verb("bundle", "inspect", view=lambda result: _view_inspected(result))
def inspect(invocation: Invocation, archive: Path | None) -> Any:
    """Show what a bundle holds: packs, how they run, what they ask for."""
    from greentic.bundles.inspect import inspect as look

    return _plain(look(Path(need(archive, "argument 'FILE'"))))


@bundle.command()
@click.argument("archive", type=FILE, metavar="FILE", required=False)
@click.option("--digest", metavar="sha256:…", help="What the archive must be.")
@verb("bundle", "verify", view=lambda result: _view_verified(result))
def verify(invocation: Invocation, archive: Path | None, digest: str | None) -> Any:
    """Check a bundle whole: its digest, manifest, lock, and every pack."""
    from greentic.bundles.verify import verify as check
    from greentic.spec.errors import BundleError

    report = check(Path(need(archive, "argument 'FILE'")), expected_digest=digest)
    told = _plain(report)
    failed = [one for one in told["checks"] if not one["ok"] and not one.get("warning")]
    if failed:
        raise BundleError(
            f"{archive} fails {len(failed)} of {len(told['checks'])} checks: "
            + "; ".join(f"{one['name']}: {one['detail']}" for one in failed),
            details={"checks": told["checks"]},
        )
    return told


@bundle.command()
@click.argument("archive", type=FILE, metavar="FILE", required=False)
@click.argument("folder", type=FILE, required=False)
@click.option("--digest", metavar="sha256:…", help="What the archive must be.")
@verb("bundle", "unpack", view=lambda result: _view_unpacked(result))
def unpack(invocation: Invocation, archive: Path | None, folder: Path | None, digest: str | None) -> Any:
    """Unpack a bundle into a new FOLDER; a hostile archive is refused and leaves nothing behind."""
    from greentic.bundles.unpack import unpack as extract

    done = extract(
        Path(need(archive, "argument 'FILE'")), Path(need(folder, "argument 'FOLDER'")), expected_digest=digest
    )
    return {
        "folder": str(done.path),
        "digest": done.digest,
        "packs": [{"pack_id": pack.pack_id, "version": pack.version, "digest": pack.digest} for pack in done.packs],
    }


def _plain(value: Any) -> Any:
    """Dataclasses, models and paths as JSON values."""
    from pydantic import TypeAdapter

    return json.loads(TypeAdapter(Any).dump_json(value))


def _view_init(result: Any) -> None:
    from greentic.cli.tables import line

    for path in result["files"]:
        line(f"  {path}")
    line("build it with: ", (f"gtc bundle build {result['folder']}", "bold"))


def _view_built(result: Any) -> None:
    from greentic.cli.tables import line

    line((f"{result['path']}", "bold"), f"  {result['size_bytes']} bytes  {result['digest']}")


def _view_inspected(result: Any) -> None:
    from greentic.cli.tables import line, table

    line(
        (f"{result['bundle_id']} {result['version'] or ''}", "bold"),
        f"  {result['format']}  {result['size_bytes']} bytes",
    )
    line((result["digest"], "dim"))
    table(
        ("PACK", "VERSION", "RUNS AS", "HEALTH", "ASKS FOR", "QUESTIONS", "DIGEST"),
        [
            (
                pack["pack_id"],
                pack["version"],
                _kind(pack),
                _health(pack),
                ", ".join(pack.get("capabilities") or ()),
                ", ".join(question["name"] for question in pack.get("setup") or ()),
                pack["digest"][:19],
            )
            for pack in result["packs"]
        ],
    )


def _kind(pack: Any) -> Any:
    application = pack.get("application") or pack.get("kind")
    return application.get("kind") if isinstance(application, dict) else application


def _health(pack: Any) -> Any:
    health = pack.get("health")
    return health.get("path") if isinstance(health, dict) else health


def _view_verified(result: Any) -> None:
    from greentic.cli.tables import line

    for check in result["checks"]:
        mark = ("ok  ", "green") if check["ok"] else ("warn", "yellow")
        line(mark, f"  {check['name']}", (f"  {check['detail']}" if check["detail"] else "", "dim"))


def _view_unpacked(result: Any) -> None:
    from greentic.cli.tables import line

    line(f"unpacked {len(result['packs'])} packs into ", (result["folder"], "bold"), f"  {result['digest']}")
