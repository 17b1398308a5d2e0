"""The entry point and the tree of nouns. Only what a call needs is imported: `gtc --help` loads no noun at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from greentic.cli.nouns import LazyGroup

NOUNS = {
    "bundle": ("greentic.cli.bundle:bundle", "Write, build and check bundles: the packaged workers."),
    "env-pack": ("greentic.cli.env_pack:env_pack", "Write, seal and install env-packs: the plug-ins."),
    "conformance": ("greentic.cli.conformance:conformance", "The driving test that every deployer takes."),
    "op": ("greentic.cli.main:op", "Operate an environment: deployments, revisions, traffic."),
    "store": ("greentic.cli.store:store", "Serve environments to many machines, and say who may use them."),
    "start": ("greentic.cli.runtime:start", "Run an environment's data plane in the foreground."),
    "stop": ("greentic.cli.runtime:stop", "End an environment's data plane; the record stays."),
    "schema": ("greentic.cli.schema:schema", "JSON Schemas of the documents."),
    "completion": ("greentic.cli.completion:completion", "Print the completion script of your shell."),
}
OPERATIONS = {
    "env": ("greentic.cli.env:env", "Environments: the places where workers run."),
    "bundles": ("greentic.cli.bundles:bundles", "Deployments: one customer's copy of a bundle."),
    "revisions": ("greentic.cli.revisions:revisions", "Revisions: stage, warm, drain, archive."),
    "traffic": ("greentic.cli.traffic:traffic", "The dial: set, roll back, look."),
    "deploy": ("greentic.cli.deploy:deploy", "One command from a bundle to a running worker."),
    "status": ("greentic.cli.status:status", "One tree: deployments, revisions, shares, health."),
    "watch": ("greentic.cli.watch:watch", "The dial while it works: shares, rates, errors, latency."),
    "router": ("greentic.cli.router:router", "The routers: look at them, restart them, turn their keys."),
    "explain": ("greentic.cli.seeing:explain", "Which revision served a request, and why."),
    "metrics": ("greentic.cli.seeing:metrics", "What was counted, as Prometheus reads it."),
    "config": ("greentic.cli.config:config", "Host settings of an environment, at a glance."),
    "env-packs": ("greentic.cli.env_packs:env_packs", "What fills an environment's capability slots."),
    "extensions": ("greentic.cli.extensions:extensions", "What extends an environment."),
    "messaging": ("greentic.cli.messaging:messaging", "Chat channels and the bundles they reach."),
    "secrets": ("greentic.cli.secrets:secrets", "Secrets: put, look, rotate; never shown unasked."),
    "credentials": ("greentic.cli.credentials:credentials", "What the deployer needs to be allowed."),
    "audit": ("greentic.cli.audit:audit", "Who changed what, when; verified offline."),
    "backup": ("greentic.cli.backup:backup", "Go back to an earlier document."),
    "trust-root": ("greentic.cli.trust_root:trust_root", "Whose signatures count."),
    "policy": ("greentic.cli.policy:policy", "Who may change what."),
    "updates": ("greentic.cli.updates:updates", "Where updates come from, and what they lead to."),
}


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"gtc {version('greentic')}")
        ctx.exit()


@click.group(cls=LazyGroup, table=NOUNS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
def cli() -> None:
    """Runs digital workers: versions side by side, an exact traffic dial, an instant undo.

    \b
    gtc bundle init my-worker && gtc bundle build my-worker
    gtc op deploy --bundle my-worker-0.1.0.gtbundle web
    gtc op deploy --bundle my-worker-0.2.0.gtbundle web --traffic 0%
    gtc op traffic set web v2=1% rest=v1
    gtc op traffic rollback web
    """


@click.group(cls=LazyGroup, table=OPERATIONS)
def op() -> None:
    """Operate an environment. `--env NAME` chooses it (default $GREENTIC_ENV, else local)."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status (see `greentic.spec.errors.EXIT_CODES`; 130 after Ctrl-C)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Looking for pydantic plug-ins reads the metadata of every installed distribution; we use none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        status = cli.main(words, prog_name="gtc", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        status = exit_.exit_code
    except click.UsageError as error:
        status = _usage(error, "--json" in words)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was recorded stands: gtc op status shows it", err=True)
        status = 130
    except BrokenPipeError:
        sys.stderr.close()
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _usage(error: click.UsageError, as_json: bool) -> int:
    if as_json:
        import json

        path = "" if error.ctx is None else error.ctx.command_path
        words = path.split()[1:]
        document = {
            "op": words[-1] if words else "gtc",
            "noun": words[-2] if len(words) > 1 else "gtc",
            "error": {"kind": "usage", "message": error.format_message()},
        }
        click.echo(json.dumps(document, ensure_ascii=False), err=True)
    else:
        error.show()
    return 2


if __name__ == "__main__":
    main()
