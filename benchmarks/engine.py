"""What documents and transitions cost as an environment grows: `python -m benchmarks.engine [DEPLOYMENTS ...]`.

For environments of 10, 100 and 1,000 deployments with 10 revisions each: reading (JSON text -> values -> documents),
checking every rule, writing (documents -> JSON text), and each kind of transition, its rules included. Milliseconds of
processor time, so that a busy machine does not blur them; best of several runs, the collector at rest as in the store.
Last, the import of what a verb needs, in processes of their own.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from greentic.engine.command import Command
from greentic.engine.transition import transition
from greentic.spec import rules
from greentic.spec.environment import Environment
from greentic.spec.parsing import parse, parse_json
from greentic.spec.verbs import find

REVISIONS = 10
NOW = "2026-07-24T10:00:00Z"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(number: int) -> str:
    """A ULID that stands for `number`."""
    digits = ""
    while number:
        number, digit = divmod(number, 32)
        digits = ALPHABET[digit] + digits
    return digits.rjust(26, "0")


def run(environment: Environment | None, noun: str, verb: str, **payload: Any) -> Environment:
    """`environment` after one verb."""
    command = Command(
        environment_id="bench",
        noun=noun,
        verb=verb,
        payload=find(noun, verb).payload().model_validate(payload),
        idempotency_key=f"{noun}-{verb}-{time.perf_counter_ns()}",
        actor="bench",
    )
    return transition(environment, command, NOW).environment


def build(deployments: int) -> dict[str, Any]:
    """The JSON of an environment of that many deployments, each with `REVISIONS` ready revisions and a split of two.

    One deployment is built by real verbs; the others are its copies under other identifiers.
    """
    environment = run(None, "env", "create", environment_id="bench", name="bench")
    environment = run(
        environment,
        "bundles",
        "add",
        deployment_id=ulid(1),
        bundle_id="bundle-1",
        customer_id="customer",
        route_binding={"hosts": ["bundle-1.example.com"], "path_prefixes": ["/"]},
    )
    for number in range(1, REVISIONS + 1):
        environment = run(environment, "revisions", "stage", **revision(1, number))
        gate = {"ok": True}
        environment = run(environment, "revisions", "warm", revision_id=ulid(1_000 + number), health_gate=gate)
    for weight in (100, 1_000):
        environment = run(environment, "traffic", "set", **split(1, weight))
    base = environment.to_json()
    text = json.dumps({key: base[key] for key in ("bundles", "revisions", "traffic_splits", "split_history")})
    for number in range(2, deployments + 1):
        copied = text.replace(ulid(1), ulid(number)).replace("bundle-1", f"bundle-{number}")
        for sequence in range(1, REVISIONS + 1):
            copied = copied.replace(ulid(1_000 + sequence), ulid(1_000 * number + sequence))
        for key, values in json.loads(copied).items():
            base[key].extend(values)
    return base


def revision(deployment: int, number: int) -> dict[str, Any]:
    """The payload that stages revision `number` of a deployment."""
    name = ulid(1_000 * deployment + number)
    packs = [{"pack_id": f"pack-{index}", "version": "1.0.0", "digest": "sha256:" + "ab" * 32} for index in range(3)]
    return {
        "revision_id": name,
        "deployment_id": ulid(deployment),
        "bundle_digest": "sha256:" + "cd" * 32,
        "pack_list": packs,
        "pack_list_lock_ref": f"revisions/{name}/pack-list.lock",
        "pack_config_refs": [f"revisions/{name}/pack-configs/pack-{index}.json" for index in range(3)],
        "config_digest": "sha256:" + "ef" * 32,
    }


def split(deployment: int, weight: int) -> dict[str, Any]:
    """The payload that gives the deployment's second revision `weight` basis points and the first the rest."""
    return {
        "deployment_id": ulid(deployment),
        "entries": [
            {"revision_id": ulid(1_000 * deployment + 1), "weight_bps": 10_000 - weight},
            {"revision_id": ulid(1_000 * deployment + 2), "weight_bps": weight},
        ],
        "updated_by": "bench",
    }


def spent() -> float:
    """Seconds of processor time of this process and of the children that it waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def best(action: Callable[[], Any], runs: int = 5) -> float:
    """The shortest of several runs, in milliseconds of processor time."""
    times = []
    gc.disable()
    for _ in range(runs):
        started = spent()
        action()
        times.append(spent() - started)
        gc.collect()
    gc.enable()
    return min(times) * 1000


def measure(deployments: int) -> dict[str, float]:
    """Milliseconds by step for an environment of that size."""
    base = build(deployments)
    text = json.dumps(base)
    environment = parse(Environment, base, "environment")
    rules.check(environment)
    last = deployments
    state = run(environment, "traffic", "set", **split(last, 2_000))
    idle = ulid(1_000 * last + REVISIONS)
    draining = run(environment, "revisions", "drain", revision_id=idle)
    verbs: dict[str, Callable[[], Any]] = {
        "env update": lambda: run(environment, "env", "update", name="other"),
        "bundles add": lambda: run(
            environment,
            "bundles",
            "add",
            deployment_id=ulid(9_999_999),
            bundle_id="new",
            customer_id="customer",
            route_binding={"hosts": ["new.example.com"]},
        ),
        "bundles update": lambda: run(environment, "bundles", "update", deployment_id=ulid(last), status="paused"),
        "revisions stage": lambda: run(environment, "revisions", "stage", **revision(last, 900)),
        "revisions drain": lambda: run(environment, "revisions", "drain", revision_id=idle),
        "revisions archive": lambda: run(draining, "revisions", "archive", revision_id=idle),
        "traffic set": lambda: run(environment, "traffic", "set", **split(last, 3_000)),
        "traffic rollback": lambda: run(state, "traffic", "rollback", deployment_id=ulid(last), updated_by="bench"),
        "traffic clear": lambda: run(environment, "traffic", "clear", deployment_id=ulid(last), updated_by="bench"),
    }
    return {
        "size (kB)": len(text) / 1000,
        "JSON text -> values": best(lambda: parse_json(text, "environment")),
        "values -> documents": best(lambda: parse(Environment, base, "environment")),
        "every rule": best(lambda: rules.check(environment)),
        "documents -> JSON text": best(lambda: json.dumps(environment.to_json())),
        **{name: best(action) for name, action in verbs.items()},
    }


def cold_import(module: str) -> float:
    """Milliseconds that a new interpreter takes to import `module`, less what an empty one takes."""

    def start(code: str) -> float:
        return best(lambda: subprocess.run([sys.executable, "-c", code], check=True), runs=7)

    return start(f"import {module}") - start("pass")


def main(sizes: list[int]) -> None:
    """Print the table."""
    columns = [measure(size) for size in sizes]
    print("CPU milliseconds, best of 5".ljust(28) + "".join(f"{size} x {REVISIONS}".rjust(14) for size in sizes))
    for name in columns[0]:
        print(name.ljust(28) + "".join(f"{column[name]:14.2f}" for column in columns))
    print()
    for module in ("greentic.spec.verbs", "pydantic.main", "greentic.spec.environment", "greentic.engine.transition"):
        print(f"import {module}".ljust(42) + f"{cold_import(module):14.2f}")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [10, 100, 1_000])
