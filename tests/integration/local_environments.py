"""A small world for the tests of the local deployer: environments as recorded, bundles as unpacked, and a client."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from greentic.envpacks.deployer import DeployerContext, DesiredState, Observation
from greentic.providers.local.deployer import LocalProcessDeployer
from greentic.spec.environment import Environment

DEPLOYMENT = "01J00000000000000000000D01"
V1 = "01J00000000000000000000R01"
V2 = "01J00000000000000000000R02"
AT = "2026-07-24T10:00:00Z"

APP = """
import asyncio, json, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    if path.startswith("/slow/"):
        await asyncio.sleep(float(path.rpartition("/")[2]))
    if path == "/environment":
        body = json.dumps(dict(os.environ)).encode()
    elif path == "/parameters":
        with open(os.environ["GREENTIC_CONFIG_FILE"], "rb") as file:
            body = file.read()
    else:
        body = os.environ["GREENTIC_REVISION_NAME"].encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

SCRIPT = """#!/usr/bin/env python3
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("process " + " ".join(sys.argv[1:])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

ASGI = {"kind": "asgi", "app": "main:app"}


@dataclass
class World:
    """One environment in `folder`; `record` makes the next record of it, as the store would."""

    folder: Path
    desired: DesiredState
    deployer: LocalProcessDeployer
    progress: list[str] = field(default_factory=list)

    @classmethod
    def new(cls, folder: Path, operator: dict[str, str] | None = None, listen: str = "127.0.0.1:0") -> World:
        environment = Environment.model_validate(
            {
                "schema": "greentic.environment.v1",
                "environment_id": "local",
                "name": "local",
                "host_config": {"env_id": "local", "listen_addr": listen},
                "packs": [],
                "bundles": [deployment(DEPLOYMENT, "web", "acme", [])],
            }
        )
        context = DeployerContext("local", folder)
        return cls(folder, DesiredState(environment, 1), LocalProcessDeployer(context, operator))

    def bundle(
        self,
        revision_id: str = V1,
        files: dict[str, str] | None = None,
        application: dict[str, Any] | None = None,
        health: str = "/healthz",
        timeout: int = 10,
        parameters: dict[str, Any] | None = None,
        deployment_id: str = DEPLOYMENT,
        lifecycle: str = "warming",
        drain_seconds: int = 5,
    ) -> None:
        """Put an unpacked bundle where the store does, and record its revision."""
        sequence = int(revision_id[-2:])
        folder = self.folder / "revisions" / revision_id
        tree(folder / "bundle", files or {"main.py": APP}, application or ASGI, health, timeout)
        (folder / "pack-configs").mkdir()
        configuration = {
            "schema": "greentic.pack-config.v1",
            "pack_id": "web",
            "revision_id": revision_id,
            "non_secret": parameters or {},
        }
        (folder / "pack-configs" / "web.json").write_text(json.dumps(configuration))
        revision = {
            "schema": "greentic.revision.v1",
            "revision_id": revision_id,
            "env_id": "local",
            "bundle_id": self.desired.environment.deployment(deployment_id).bundle_id,
            "deployment_id": deployment_id,
            "sequence": sequence,
            "created_at": AT,
            "bundle_digest": "sha256:" + "0" * 64,
            "pack_list": [],
            "pack_list_lock_ref": "",
            "config_digest": "",
            "signature_sidecar_ref": "",
            "lifecycle": lifecycle,
            "drain_seconds": drain_seconds,
            "display_version": f"{sequence}.0.0",
        }
        self.record(lambda document: document["revisions"].append(revision))

    def record(self, change: Callable[[dict[str, Any]], Any]) -> DesiredState:
        """The next record: `change` is made to the document."""
        document = self.desired.environment.to_json()
        change(document)
        self.desired = DesiredState(Environment.model_validate(document), self.desired.generation + 1)
        return self.desired

    def lifecycle(self, revision_id: str, lifecycle: str) -> DesiredState:
        def change(document: dict[str, Any]) -> None:
            for revision in document["revisions"]:
                if revision["revision_id"] == revision_id:
                    revision["lifecycle"] = lifecycle

        return self.record(change)

    def split(self, deployment_id: str = DEPLOYMENT, **weights: int) -> DesiredState:
        """Record a split: basis points by `v1`, `v2`, …"""
        revisions = {
            f"v{item.sequence}": item.revision_id for item in self.desired.environment.revisions_of(deployment_id)
        }
        now = self.desired.environment.split(deployment_id)
        split = {
            "schema": "greentic.traffic-split.v1",
            "env_id": "local",
            "deployment_id": deployment_id,
            "bundle_id": self.desired.environment.deployment(deployment_id).bundle_id,
            "generation": (now.generation if now else 0) + 1,
            "entries": [{"revision_id": revisions[name], "weight_bps": weight} for name, weight in weights.items()],
            "updated_at": AT,
            "updated_by": "test",
            "idempotency_key": "k",
            "authorization_ref": "auth.json",
        }

        def change(document: dict[str, Any]) -> None:
            others = [item for item in document["traffic_splits"] if item["deployment_id"] != deployment_id]
            document["traffic_splits"] = [*others, split]

        return self.record(change)

    async def warm(self, revision_id: str = V1) -> None:
        """Warm, record that it is ready, and let the data plane know: what `gtc op revisions warm` does."""
        await self.deployer.warm_revision(self.desired, revision_id, self.progress.append)
        self.lifecycle(revision_id, "ready")
        await self.deployer.reconcile(self.desired)

    async def live(self, **weights: int) -> None:
        """Set the split and have it served."""
        self.split(**weights)
        await self.deployer.apply_traffic_split(self.desired, DEPLOYMENT, self.progress.append)

    async def observe(self) -> Observation:
        return await self.deployer.observe(self.desired)

    async def until(self, condition: Callable[[Observation], Any], seconds: float = 10.0) -> Observation:
        """Look again and again until `condition` holds of what is seen."""
        deadline = time.monotonic() + seconds
        while True:
            seen = await self.observe()
            if condition(seen):
                return seen
            assert time.monotonic() < deadline, f"not within {seconds} s: {seen}"
            await asyncio.sleep(0.005)

    async def get(self, path: str = "/") -> tuple[int, bytes]:
        """One request through the router, on a connection of its own."""
        seen = await self.observe()
        assert seen.url is not None
        return await get(int(seen.url.rpartition(":")[2]), path)

    def runtime_pid(self) -> int:
        return int(json.loads((self.folder / "run" / "runtime.json").read_text())["pid"])

    def log(self, name: str = "runtime.log") -> str:
        return (self.folder / "logs" / name).read_text()


def in_world(
    test: Callable[[World], Coroutine[Any, Any, None]], deployer: Callable[[DeployerContext], Any] | None = None
) -> Callable[[], None]:
    """Run the test in a new world. Afterwards nothing of it may be running. `deployer` makes another than the local
    one's own; the test itself is the `scenario` of what is returned.
    """

    def run() -> None:
        with tempfile.TemporaryDirectory(prefix="gt-") as name:
            folder = Path(name).resolve()

            async def scenario() -> None:
                world = World.new(folder)
                if deployer is not None:
                    world.deployer = deployer(DeployerContext("local", folder))
                try:
                    await test(world)
                finally:
                    await world.deployer.stop(world.desired)
                left = processes_of(folder)
                assert not left, [Path(f"/proc/{process}/cmdline").read_bytes() for process in left]

            asyncio.run(scenario())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    run.__module__ = test.__module__
    run.scenario = test  # type: ignore[attr-defined]
    return run


def deployment(deployment_id: str, bundle_id: str, customer_id: str, prefixes: list[str]) -> dict[str, Any]:
    return {
        "schema": "greentic.bundle-deployment.v1",
        "deployment_id": deployment_id,
        "env_id": "local",
        "bundle_id": bundle_id,
        "customer_id": customer_id,
        "status": "active",
        "route_binding": {"hosts": [], "path_prefixes": prefixes, "tenant_selector": {"tenant": "t1", "team": "blue"}},
        "revenue_share": [{"party_id": "p", "basis_points": 10_000}],
        "revenue_policy_ref": "policy.json",
        "created_at": AT,
    }


def tree(
    folder: Path, files: dict[str, str], application: dict[str, Any], health: str = "/healthz", timeout: int = 10
) -> None:
    """A bundle as `greentic.bundles.unpack` leaves it, with one pack `web`."""
    pack = folder / "apps" / "web"
    pack.mkdir(parents=True)
    (folder / "packs").mkdir()
    (folder / "packs" / "web.gtpack").write_bytes(b"")
    for name, text in files.items():
        path = pack / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
    manifest = {
        "pack_id": "web",
        "version": "1.0.0",
        "application": application,
        "health": {"path": health, "timeout_seconds": timeout},
    }
    (pack / "pack.json").write_text(json.dumps(manifest))
    (folder / "bundle-manifest.json").write_text(
        json.dumps(
            {
                "format_version": "gtbundle-v1",
                "bundle_id": "web",
                "version": "1.0.0",
                "entry": "web",
                "app_packs": ["packs/web.gtpack"],
            }
        )
    )
    (folder / "bundle-lock.json").write_text(
        json.dumps(
            {
                "schema_version": 1,
                "bundle_id": "web",
                "app_packs": [{"reference": "packs/web.gtpack", "digest": "sha256:" + "0" * 64}],
            }
        )
    )


async def get(port: int, path: str = "/", seconds: float = 20.0) -> tuple[int, bytes]:
    """(status, body) of one GET on a connection of its own."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            data = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def alive(process: int) -> bool:
    """Whether a process runs: a dead one that nobody has collected does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_dead(*processes: int, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while any(alive(process) for process in processes):
        assert time.monotonic() < deadline, [process for process in processes if alive(process)]
        await asyncio.sleep(0.005)


def processes_of(folder: Path) -> list[int]:
    """Every living process that has the environment's folder in its arguments or its environment."""
    mark = os.fsencode(folder)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                facts = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark in facts and alive(int(entry.name)):
                found.append(int(entry.name))
    return found
