"""How a pack's application is started: a pure computation from the pack and who it is to be, to a command line.

The environment of a worker is built from nothing: a handful of variables that any program needs, its identity, and
where its parameters are. What else stands in the operator's environment (tokens, passwords) stays there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from greentic.bundles.application import AsgiApplication
from greentic.bundles.unpack import UnpackedPack
from greentic.envpacks.variables import passed
from greentic.spec.errors import BundleError

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is, as its environment tells it."""

    env_id: str
    revision_id: str
    deployment_id: str
    bundle_id: str
    bundle_digest: str
    bundle_version: str
    customer_id: str
    tenant: str
    team: str
    sequence: int

    def variables(self) -> dict[str, str]:
        """The identity as environment variables."""
        return {
            "GREENTIC_ENV_ID": self.env_id,
            "GREENTIC_REVISION_ID": self.revision_id,
            "GREENTIC_REVISION_NAME": f"v{self.sequence}",
            "GREENTIC_DEPLOYMENT_ID": self.deployment_id,
            "GREENTIC_BUNDLE_ID": self.bundle_id,
            "GREENTIC_BUNDLE_DIGEST": self.bundle_digest,
            "GREENTIC_BUNDLE_VERSION": self.bundle_version,
            "GREENTIC_CUSTOMER_ID": self.customer_id,
            "GREENTIC_TENANT": self.tenant,
            "GREENTIC_TEAM": self.team,
        }


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: a command (no shell), its whole environment, its folder, and how it shows that it is well.

    `health_timeout`: seconds it may take to become healthy.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    port: int
    health_path: str
    health_timeout: float


def plan(
    pack: UnpackedPack,
    identity: Identity,
    *,
    port: int,
    configuration: Path,
    operator: Mapping[str, str],
    dependencies: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Launch:
    """How to start `pack` as `identity` on `port` of 127.0.0.1.

    `configuration` is the JSON file of its frozen parameters, `operator` the environment of whoever starts it (of which
    only `passed` is used), `dependencies` the folder where its declared dependencies were installed, `variables` what
    else it is given, such as how it reaches its state. BundleError when
    there is nothing that can be run, or the command names a file of the pack that is not there.
    """
    application = pack.manifest.application
    if application is None:
        raise BundleError(f"the pack '{pack.pack_id}' holds no application that this runtime can run")
    if isinstance(application, AsgiApplication):
        argv = _asgi(application, pack.directory, port, dependencies)
    else:
        argv = _process(tuple(application.command), pack, port)
    return Launch(
        argv=argv,
        environment={
            **passed(operator),
            "HOST": HOST,
            "PORT": str(port),
            **identity.variables(),
            "GREENTIC_CONFIG_FILE": str(configuration),
            **(variables or {}),
        },
        directory=pack.directory,
        port=port,
        health_path=pack.manifest.health.path,
        health_timeout=float(pack.manifest.health.timeout_seconds),
    )


def _asgi(application: AsgiApplication, directory: Path, port: int, dependencies: Path | None) -> tuple[str, ...]:
    # -P: the pack's folder is put on the path by the worker itself, behind the server's own modules, so that no file of
    # a pack can stand in for one of ours.
    argv = [sys.executable, "-P", "-u", "-m", "greentic.worker", "--app", application.app, "--port", str(port)]
    if application.vendor is not None:
        argv += ["--path", str(directory / application.vendor)]
    if dependencies is not None:
        argv += ["--path", str(dependencies)]
    return (*argv, "--path", str(directory))


def _process(command: tuple[str, ...], pack: UnpackedPack, port: int) -> tuple[str, ...]:
    program, *arguments = (part.replace("${PORT}", str(port)).replace("$PORT", str(port)) for part in command)
    if "/" in program and not program.startswith("/"):
        path = pack.directory / program
        if not path.resolve().is_relative_to(pack.directory.resolve()):
            raise BundleError(f"the pack '{pack.pack_id}' starts '{program}', which lies outside the pack")
        if not path.is_file():
            raise BundleError(
                f"the pack '{pack.pack_id}' starts '{program}', which it does not hold",
                next_step="build the bundle again with that file in the pack",
            )
        program = str(path)
    return (program, *arguments)
