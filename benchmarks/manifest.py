"""What applying a manifest costs when nothing has to be done: `python -m benchmarks.manifest [--sizes 10,50,200,1000]`.

For each number of bundles, an environment that is exactly as its manifest says, and then the whole command
`gtc op env apply -f env.yaml`, start of the interpreter included: the first time, when every bundle is read and hashed
(`cold`), and again (`warm`, the median of several). Beside it, in one process: reading the manifest, gathering what the
plan needs, and the plan itself. Everything lies in a temporary folder beside this file, on its real disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from greentic.bundles.build import build
from greentic.bundles.digests import digest_file
from greentic.engine.command import Command, Outcome
from greentic.operations.manifest.digests import parameters_digest_of
from greentic.operations.manifest.plan import derived_id
from greentic.operations.manifest.planning import make_plan
from greentic.operations.manifest.reading import Source, gather
from greentic.spec.deployment import BundleDeployment, DeploymentStatus, RouteBinding
from greentic.spec.environment import Environment, HostConfig
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.manifest import read
from greentic.spec.payloads import DEFAULT_PACKS, GREENTIC, CreateEnvironmentPayload
from greentic.spec.revision import PackListEntry, Revision
from greentic.spec.traffic import SplitEntry, TrafficSplit
from greentic.store.files import FilesStore

RUNS = 5
NOW = "2026-01-01T00:00:00Z"
PACK = """\
pack_id: assistant
version: 1.0.0
kind: application
application: {kind: asgi, app: "main:application"}
health: {path: /healthz}
setup:
  - {name: tone, type: string, default: calm}
"""


def bundles(folder: Path, count: int, kilobytes: int) -> list[str]:
    """So many different bundles of about that size in `<folder>/bundles`; their digests."""
    pack = folder / "source" / "packs" / "assistant"
    pack.mkdir(parents=True)
    (folder / "source" / "bundle.yaml").write_text("bundle_id: assistant\nbundle_name: A\nversion: 1.0.0\n")
    (pack / "pack.yaml").write_text(PACK)
    (pack / "main.py").write_text("application = None\n")
    (folder / "bundles").mkdir()
    digests = []
    for index in range(count):
        (pack / "data.bin").write_bytes(os.urandom(kilobytes * 1024))
        digests.append(digest_file(build(folder / "source", folder / "bundles" / f"web-{index}.gtbundle").path))
    return digests


def recorded(digests: list[str], config: str) -> Environment:
    """An environment of one deployment with one live revision for each of the bundles."""
    deployments, revisions, splits = [], [], []
    for index, digest in enumerate(digests):
        deployment_id, revision_id = derived_id("deployment", index), derived_id("revision", index)
        deployments.append(
            BundleDeployment(
                deployment_id=deployment_id,
                env_id="local",
                bundle_id=f"web-{index}",
                customer_id="local-dev",
                status=DeploymentStatus.ACTIVE,
                current_revisions=(revision_id,),
                route_binding=RouteBinding(path_prefixes=(f"/web-{index}",)),
                revenue_share=GREENTIC,
                revenue_policy_ref="",
                created_at=NOW,
                traffic_generation=0,
            )
        )
        revisions.append(
            Revision(
                revision_id=revision_id,
                env_id="local",
                bundle_id=f"web-{index}",
                deployment_id=deployment_id,
                sequence=1,
                created_at=NOW,
                bundle_digest=digest,
                pack_list=(PackListEntry(pack_id="assistant", version="1.0.0", digest=digest),),
                pack_list_lock_ref=f"revisions/{revision_id}/pack-list.lock",
                config_digest=config,
                signature_sidecar_ref="rev.sig",
                lifecycle=Lifecycle.READY,
            )
        )
        splits.append(
            TrafficSplit(
                env_id="local",
                deployment_id=deployment_id,
                bundle_id=f"web-{index}",
                generation=0,
                entries=(SplitEntry(revision_id=revision_id, weight_bps=10_000),),
                updated_at=NOW,
                updated_by="benchmark",
                idempotency_key=f"key-{index}",
                authorization_ref="auth.json",
            )
        )
    return Environment(
        environment_id="local",
        name="local",
        host_config=HostConfig(env_id="local"),
        packs=DEFAULT_PACKS,
        bundles=tuple(deployments),
        revisions=tuple(revisions),
        traffic_splits=tuple(splits),
    )


def manifest(count: int) -> str:
    """The manifest of that environment."""
    lines = ["schema: greentic.env-manifest.v1", "environment: {id: local}", "bundles:"]
    for index in range(count):
        lines += [f"  - bundle_id: web-{index}", f"    bundle_path: bundles/web-{index}.gtbundle"]
        lines += ["    route_binding:", f"      path_prefixes: [/web-{index}]"]
    return "\n".join(lines) + "\n"


def measure(folder: Path, count: int, kilobytes: int) -> dict[str, Any]:
    """Seconds of each part for `count` bundles of that size."""
    digests = bundles(folder, count, kilobytes)
    path = folder / "env.yaml"
    path.write_text(manifest(count))
    environment = recorded(digests, parameters_digest_of(folder / "bundles" / "web-0.gtbundle", {}))
    store = FilesStore(folder / "root")
    command = Command(
        "local", "env", "create", CreateEnvironmentPayload(environment_id="local", name="local"), "key", "benchmark"
    )
    store.carry_out(command, lambda *_: Outcome(environment))
    time.sleep(2.1)  # what was written within two seconds is not remembered
    cold = run(folder)
    warm = statistics.median(run(folder) for _ in range(RUNS))
    return {"bundles": count, "cold": cold, "warm": warm, **parts(folder, path)}


def run(folder: Path) -> float:
    """The whole command, in seconds."""
    words = ["op", "env", "apply", "-f", str(folder / "env.yaml"), "--store-root", str(folder / "root"), "--json"]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "greentic.cli.main", *words], capture_output=True, check=False)
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["result"]["changed"] == 0
    return took


def parts(folder: Path, path: Path) -> dict[str, float]:
    """Reading, gathering (reading included) and planning, in seconds."""
    from greentic.envpacks.registry import Registry
    from greentic.operations.context import Context

    store = FilesStore(folder / "root")
    context = Context(
        store=store, registry=Registry.installed(), actor="me", by="me", now=lambda: NOW, mint=lambda: derived_id("x")
    )
    source = Source.of_file(path)
    began = time.perf_counter()
    read(source.data, source.origin)
    parsed = time.perf_counter()
    gathered = gather(context, source)
    ready = time.perf_counter()
    make_plan(gathered.resolved, gathered.recorded, actor="me")
    return {"read": parsed - began, "gather": ready - parsed, "plan": time.perf_counter() - ready}


def main() -> None:
    """Measure and print the growth curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10,50,200,1000")
    parser.add_argument("--kilobytes", type=int, default=64, help="size of each bundle")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    rows = []
    print(f"{'bundles':>8} {'cold':>9} {'warm':>9} {'read':>9} {'gather':>9} {'plan':>9}   milliseconds")
    for count in (int(size) for size in arguments.sizes.split(",")):
        with tempfile.TemporaryDirectory(prefix=".bench-manifest-", dir=Path(__file__).parent) as place:
            row = measure(Path(place), count, arguments.kilobytes)
        rows.append(row)
        figures = " ".join(f"{row[name] * 1000:9.0f}" for name in ("cold", "warm", "read", "gather", "plan"))
        print(f"{count:8} {figures}", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
