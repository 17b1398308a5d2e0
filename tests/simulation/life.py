"""One life: a world is made, lives for some virtual seconds, is left in peace, and must then be in order."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.loop import virtual
from tests.simulation.oracle import Broken, must
from tests.simulation.people import Accidents, Operator, User, stage
from tests.simulation.world import World

from greentic.envpacks.deployer import silent
from greentic.providers.local import keys
from greentic.providers.local.layout import Layout
from greentic.spec.errors import GreenticError
from greentic.spec.lifecycle import Lifecycle

PEACE_SECONDS = 20.0


@dataclass(frozen=True)
class Lived:
    """What a life came to: the same for the same seed, whatever Python and machine."""

    seed: int
    steps: int
    digest: int
    counts: Counter[str]
    seconds: float


class _Loud(logging.Handler):
    """An error that was logged is one that escaped."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


def live(
    seed: int, seconds: float = 60.0, trace: Callable[[str], None] | None = None, *, hurried: bool = False
) -> Lived:
    """Live the life of `seed`; in a `hurried` one more happens at a time.

    Raises Broken with what is wrong, be it what escaped from the product, and the command that lives it again.
    """
    loud = _Loud()
    logger = logging.getLogger("greentic")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(loud)
    logger.propagate = False
    with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
        world = World(seed, Path(folder), trace)
        try:
            with virtual(world.loop, world.chance), world.instead():
                asyncio.set_event_loop(world.loop)
                try:
                    world.loop.run_until_complete(_life(world, seconds, loud, hurried))
                finally:
                    _bury(world)
        except Exception as error:
            again = f"--seed {seed} --seconds {seconds:g}{' --hurried' if hurried else ''} --trace"
            raise Broken(
                f"{error}\n(seed {seed}, at {world.loop.time():.4f} s)\n"
                f"live it again: python -m tests.simulation {again}"
            ) from error
        finally:
            asyncio.set_event_loop(None)
            logger.removeHandler(loud)
            logger.setLevel(level)
            logger.propagate = propagate
    return Lived(seed, world.steps, world.digest, world.counts, world.loop.time())


def _scratch() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


async def _life(world: World, seconds: float, loud: _Loud, hurried: bool) -> None:
    chance = world.chance
    record = world.record
    record.apply("env create", environment_id="sim", name="sim", stamp_revision=True)
    record.apply(
        "env update",
        router={"value": {"replicas": chance.randint(1, 3), "pin_seconds": 30, "trusted_callers": ["10.0.0.0/24"]}},
    )
    deployments = [record.mint() for _ in range(chance.randint(1, 2))]
    for number, name in enumerate(deployments):
        record.apply(
            "bundles add",
            deployment_id=name,
            bundle_id=f"web{number}",
            customer_id="acme",
            route_binding={"hosts": [f"{name.lower()}.example"]},
        )
        for _ in range(2):
            revision_id = stage(world, name)
            record.apply("revisions warm", revision_id=revision_id, health_gate={"ok": True})
    layout = Layout(world.folder / "env")
    layout.prepare()
    world.oracle.slot_secret = base64.b64decode(keys.ensure(layout.keys)["slots"])
    world.boot()
    operators = [Operator(world, deployments) for _ in range(2)]
    users = [User(world, number, deployments) for number in range(chance.choice((9, 18, 27)))]
    for name in deployments:
        shares = [5_000, 5_000]
        ready = operators[0].revisions(name, Lifecycle.READY)
        record.apply(
            "traffic set",
            deployment_id=name,
            entries=[
                {"revision_id": one.revision_id, "weight_bps": share} for one, share in zip(ready, shares, strict=True)
            ],
            updated_by="sim",
        )
        with contextlib.suppress(GreenticError):
            await operators[0].publish(name)
    accidents = Accidents(world)
    living = [world.loop.create_task(user.live()) for user in users]
    living += [world.loop.create_task(one.live(0.2 if hurried else chance.choice((0.5, 2.0)))) for one in operators]
    living += [world.loop.create_task(_watch(world))]
    fate = world.loop.create_task(accidents.happen(1.0 if hurried else chance.choice((2.0, 8.0, 1e9))))
    try:
        await _until(world, [*living, fate], loud, seconds)
        fate.cancel()
        for task in living[len(users) : len(users) + len(operators)]:
            task.cancel()
        if world.runtime is None:
            world.boot()
        for wire in world.control_wires:
            wire.release()
        for process in world.router_processes:
            if process.frozen:
                process.thaw()
        await _until(world, living[: len(users)], loud, PEACE_SECONDS)
        await _in_order(world, User(world, 99, deployments), deployments)
    finally:
        for task in (*living, fate):
            task.cancel()
        await asyncio.gather(*living, fate, return_exceptions=True)


async def _until(world: World, living: list[asyncio.Task[None]], loud: _Loud, seconds: float) -> None:
    """Let them live; raise what any of them ended with."""
    end = world.loop.time() + seconds
    while world.loop.time() < end:
        await asyncio.sleep(0.25)
        for task in living:
            if task.done() and not task.cancelled():
                task.result()
        if world.loop.failures:
            raise world.loop.failures[0]
        must(not loud.said, loud.said[0] if loud.said else "")


async def _watch(world: World) -> None:
    """What the runtime tells of its routers is true at any moment."""
    while True:
        await asyncio.sleep(world.chance.expovariate(5))
        runtime = world.runtime
        if runtime is None:
            continue
        for one in runtime.routers._living:
            if one.claim.ready:
                process = getattr(one._process, "_process", None)
                world.oracle.known_as_ready(next((g for g in world.gateways if g.process is process), None))


async def _in_order(world: World, user: User, deployments: list[str]) -> None:
    """Left in peace, the world comes to what the record says."""
    runtime, record = world.runtime, world.record
    assert runtime is not None
    try:
        await runtime.ask(lambda plane: plane.reconcile(record.desired, silent))
    except GreenticError as error:
        raise Broken(f"a world in peace cannot be reconciled: {error.message}") from error
    await asyncio.sleep(1)
    environment = record.environment
    assert environment is not None
    serving = [one for one in world.gateways if not one.stopping]
    must(len(serving) == environment.host_config.routers, f"{len(serving)} routers serve, not as many as asked for")
    for gateway in serving:
        readiness = gateway.readiness()
        must(readiness.ready, f"{gateway.process.name} is not ready in peace: {readiness.reason}")  # type: ignore[union-attr]
        assert gateway.table is not None
        for name in deployments:
            dial = world.oracle.dial(len(world.oracle._sources) - 1, name)
            must(gateway.table.deployments[name].generation == dial.generation, "an old generation in peace")
    for name in deployments:
        split = environment.split(name)
        if split is not None and str(environment.deployment(name).status) == "active":  # type: ignore[union-attr]
            status = await user.ask(name)
            must(status is not None and status < 500, f"a request in peace came to {status}: {user.told!r}")


def _bury(world: World) -> None:
    """End every process and task, so that nothing of this life is left."""
    loop = world.loop
    world.crash()
    for process in list(world.router_processes):
        process.kill()
    for server in list(world.servers.values()):
        server.process.kill()

    async def settle() -> None:
        for _ in range(50):
            await asyncio.sleep(0.01)
        left = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    loop.run_until_complete(settle())
    loop.close()
    gc.collect(0)


__all__ = ["Broken", "Lived", "live"]
