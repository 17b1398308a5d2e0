"""Who lives in the world: users with browsers and without, operators with the verbs, and accidents."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from tests.simulation.oracle import must
from tests.simulation.wires import End
from tests.simulation.world import SLOW, Gone, SimSupervision, World

from greentic.envpacks.deployer import silent
from greentic.spec.errors import Conflict, GateFailed, InvalidArgument, NotFound, ProviderError, TimedOut
from greentic.spec.lifecycle import Lifecycle

ANSWER_SECONDS = 40.0
_EXPECTED = (Conflict, Gone, TimedOut, ProviderError, GateFailed, NotFound, InvalidArgument)


class _Response(asyncio.Protocol):
    """Reads responses with a declared length."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._data = b""
        self.answer: asyncio.Future[tuple[int, dict[bytes, bytes], bytes]] = loop.create_future()
        self.closed = False

    def expect(self) -> None:
        self.answer = self._loop.create_future()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        while end and not self.answer.done():
            lines = head.split(b"\r\n")
            fields = dict(line.split(b": ", 1) for line in lines[1:])
            fields = {name.lower(): value for name, value in fields.items()}
            length = int(fields.get(b"content-length", b"0"))
            if len(rest) < length:
                return
            self._data = rest[length:]
            self.answer.set_result((int(lines[0].split()[1]), fields, rest[:length]))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self.answer.done():
            self.answer.set_exception(ConnectionResetError())
            self.answer.exception()


KINDS = ("browser", "browser", "browser", "curl", "session", "client", "user", "tester", "forger")


class User:
    """One who asks again and again, and keeps what it was given, by kind."""

    def __init__(self, world: World, number: int, deployments: list[str]) -> None:
        self.world = world
        self.number = number
        self.kind = KINDS[number % len(KINDS)]
        self.deployments = deployments
        self.jar: dict[bytes, bytes] = {}
        self.told = b""
        """The last answer."""
        self._end: End | None = None
        self._protocol: _Response | None = None
        self.pause = world.chance.choice((0.05, 0.3, 3.0))

    async def live(self) -> None:
        """Ask for ever."""
        chance = self.world.chance
        while True:
            await asyncio.sleep(chance.expovariate(1 / self.pause))
            await self.ask(chance.choice(self.deployments))

    async def ask(self, deployment_id: str) -> int | None:
        """One request; its status, None when no answer came."""
        world = self.world
        protocol = self._connection()
        protocol.expect()
        assert self._end is not None
        self._end.write(self._request(deployment_id))
        world.counts["requests"] += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, fields, body = await protocol.answer
        except (TimeoutError, ConnectionError):
            world.counts["no answer"] += 1
            self._end.abort()
            self._end = None
            return None
        world.counts[f"status {status}"] += 1
        self.told = body
        if status == 200:
            must(body == fields[b"x-greentic-revision"], "the answer is another revision's than the router says")
        cookie = fields.get(b"set-cookie")
        if cookie is not None and self.kind not in ("curl",):
            name, _, value = cookie.partition(b";")[0].partition(b"=")
            self.jar[name] = value
            world.oracle.cookie(value)
        if fields.get(b"connection") == b"close" or world.chance.random() < 0.1:
            self._end.close()
            self._end = None
        return status

    def _connection(self) -> _Response:
        world = self.world
        if self._end is None or self._end.is_closing() or self._protocol is None or self._protocol.closed:
            near, far = world.wire(SLOW).ends
            far.peername = ("10.0.0.7" if self.kind in ("user", "tester") else "192.0.2.1", 40_000 + self.number)
            self._protocol = _Response(world.loop)
            near.attach(self._protocol)
            self._end = near
            world.listener.connect(far)
        assert self._protocol is not None
        return self._protocol

    def _request(self, deployment_id: str) -> bytes:
        chance, kind = self.world.chance, self.kind
        lines = [b"GET /a HTTP/1.1", b"Host: %b.example" % deployment_id.lower().encode()]
        name = b"_gt_rev_" + deployment_id.encode()
        cookie = self.jar.get(name)
        if kind == "forger":
            forged = [value[:-2] + b"AA" for value in self.jar.values()] + [b"x.y", b"." * 40]
            lines.append(b"Cookie: %b=%b" % (name, chance.choice([*forged, *self.jar.values()])))
        elif kind in ("browser", "session", "user") and cookie is not None and chance.random() < 0.95:
            lines.append(b"Cookie: %b=%b" % (name, cookie))
        if kind == "session":
            lines.append(b"x-greentic-session: s%d" % (self.number % 5))
            if chance.random() < 0.5:
                lines = [line for line in lines if not line.startswith(b"Cookie")]
        elif kind == "client":
            lines.append(b"x-greentic-client: c%d" % self.number)
        elif kind == "user":
            lines.append(b"x-greentic-user: u%d" % self.number)
        elif kind == "tester" and chance.random() < 0.5:
            lines.append(b"x-greentic-revision: v%d" % chance.randint(1, 3))
        return b"\r\n".join((*lines, b"", b""))


class Operator:
    """One who uses the verbs as `gtc` does: the record first, then the runtime; may die in between."""

    def __init__(self, world: World, deployments: list[str]) -> None:
        self.world = world
        self.deployments = deployments

    async def live(self, pause: float) -> None:
        """Do something, for ever."""
        chance = self.world.chance
        verbs = {
            self.move: 8,
            self.roll_back: 3,
            self.deploy: 3,
            self.drain: 3,
            self.archive: 1,
            self.retry: 1,
            self.clear: 0.5,
            self.pause: 0.5,
            self.reconcile: 2,
            self.restart_routers: 0.7,
            self.resize: 0.7,
            self.rotate_keys: 0.7,
            self.schedule: 1.5,
            self.meddle: 0.7,
        }
        while True:
            await asyncio.sleep(chance.expovariate(1 / pause))
            verb = chance.choices(list(verbs), list(verbs.values()))[0]
            await self.carry_out(verb)

    async def carry_out(self, verb: Callable[[], Awaitable[None]]) -> None:
        """A verb with whatever may rightly come of it."""
        name = getattr(verb, "__name__", "verb")
        try:
            await verb()
            self.world.counts[f"{name} done"] += 1
        except _EXPECTED as error:
            self.world.counts[f"{name}: {error.kind}"] += 1
            self.world.did(f"{name}: {error.message}")

    async def ask(self, work: Callable[[Any], Any]) -> Any:
        """The runtime, unless this operator is killed first."""
        if self.world.chance.random() < 0.03:
            raise Gone("the operator was killed")
        runtime = self.world.runtime
        if runtime is None:
            raise Gone("no runtime runs")
        return await runtime.ask(work)

    def pick(self) -> str:
        return self.world.chance.choice(self.deployments)

    def revisions(self, deployment_id: str, *lifecycles: Lifecycle) -> list[Any]:
        environment = self.world.record.environment
        assert environment is not None
        return [one for one in environment.revisions_of(deployment_id) if one.lifecycle in lifecycles]

    def pins(self) -> dict[str, Any] | None:
        chance = self.world.chance
        mode = chance.choice((None, None, "honour", "grace", "evict"))
        if mode is None:
            return None
        return {"mode": mode, "grace_seconds": chance.randint(1, 40)} if mode == "grace" else {"mode": mode}

    async def publish(self, deployment_id: str) -> None:
        """Have the routers serve the record, and hold them to the receipt."""
        desired, world = self.world.record.desired, self.world

        async def apply(plane: Any) -> None:
            receipt = await plane.apply_traffic_split(desired, deployment_id, silent, world.loop.time())
            world.oracle.received(deployment_id, receipt.generation)
            world.did(f"receipt {deployment_id[-2:]} {receipt.generation} of {receipt.acknowledged}")

        await self.ask(apply)

    async def move(self) -> None:
        chance, deployment_id = self.world.chance, self.pick()
        ready = self.revisions(deployment_id, Lifecycle.READY)
        if not ready:
            return
        named = chance.sample(ready, chance.randint(1, min(len(ready), 4)))
        cuts = sorted(chance.choice((0, 1, 100, 3_333, 5_000, 9_999, chance.randint(0, 10_000))) for _ in named[1:])
        bounds = [0, *cuts, 10_000]
        entries = [
            {"revision_id": one.revision_id, "weight_bps": after - before}
            for one, before, after in zip(named, bounds, bounds[1:], strict=False)
        ]
        asked = self.pins()
        self.world.record.apply(
            "traffic set",
            deployment_id=deployment_id,
            entries=entries,
            updated_by="sim",
            **({} if asked is None else {"pins": asked}),
        )
        await self.publish(deployment_id)

    async def roll_back(self) -> None:
        chance, deployment_id = self.world.chance, self.pick()
        environment = self.world.record.environment
        assert environment is not None
        past = environment.history(deployment_id)
        to = chance.choice(past).generation if past and chance.random() < 0.4 else None
        asked = self.pins()
        self.world.record.apply(
            "traffic rollback",
            deployment_id=deployment_id,
            to_generation=to,
            updated_by="sim",
            **({} if asked is None else {"pins": asked}),
        )
        await self.publish(deployment_id)

    async def clear(self) -> None:
        deployment_id = self.pick()
        self.world.record.apply("traffic clear", deployment_id=deployment_id, updated_by="sim")
        await self.publish(deployment_id)

    async def deploy(self) -> None:
        deployment_id = self.pick()
        if len(self.revisions(deployment_id, *Lifecycle)) < 12:
            revision_id = stage(self.world, deployment_id)
            await self.warm(revision_id)

    async def warm(self, revision_id: str) -> None:
        record = self.world.record
        record.apply("revisions begin-warm", revision_id=revision_id)
        desired = record.desired
        try:
            await self.ask(lambda plane: plane.warm(desired, revision_id, silent))
        except GateFailed:
            gate = {"ok": False, "failure": {"failed_checks": ["provider-health"], "message": "no answer"}}
            record.apply("revisions warm", revision_id=revision_id, health_gate=gate)
        record.apply("revisions warm", revision_id=revision_id, health_gate={"ok": True})
        await self.reconcile()

    async def retry(self) -> None:
        found = self.revisions(self.pick(), Lifecycle.FAILED, Lifecycle.INACTIVE, Lifecycle.STAGED, Lifecycle.WARMING)
        if found:
            revision = self.world.chance.choice(found)
            if revision.lifecycle is not Lifecycle.WARMING:
                self.world.record.apply("revisions retry", revision_id=revision.revision_id)
            await self.warm(revision.revision_id)

    async def drain(self, revision: Any = None) -> None:
        found = self.revisions(self.pick(), Lifecycle.READY, Lifecycle.DRAINING)
        if revision is None and not found:
            return
        record = self.world.record
        revision_id = (revision or self.world.chance.choice(found)).revision_id
        record.apply("revisions drain", revision_id=revision_id)
        desired = record.desired
        await self.ask(lambda plane: plane.drain(desired, revision_id, silent))
        record.apply("revisions complete-drain", revision_id=revision_id)

    async def archive(self) -> None:
        found = self.revisions(self.pick(), *(one for one in Lifecycle if one is not Lifecycle.ARCHIVED))
        if not found:
            return
        revision = self.world.chance.choice(found)
        if revision.lifecycle is Lifecycle.READY:
            await self.drain(revision)
        self.world.record.apply("revisions archive", revision_id=revision.revision_id)
        desired = self.world.record.desired
        await self.ask(lambda plane: plane.archive(desired, revision.revision_id))

    async def pause(self) -> None:
        deployment_id = self.pick()
        for status in ("paused", "active"):
            self.world.record.apply("bundles update", deployment_id=deployment_id, status=status)
            with contextlib.suppress(*_EXPECTED):
                await self.publish(deployment_id)
            await asyncio.sleep(self.world.chance.expovariate(1 / 3))

    async def reconcile(self) -> None:
        desired = self.world.record.desired
        await self.ask(lambda plane: plane.reconcile(desired, silent))

    async def restart_routers(self) -> None:
        desired = self.world.record.desired
        await self.ask(lambda plane: plane.restart_routers(desired, 20.0, silent))

    async def resize(self) -> None:
        chance = self.world.chance
        self.world.record.apply(
            "env update",
            router={
                "value": {
                    "replicas": chance.randint(1, 3),
                    "pin_seconds": chance.choice((5, 30, 120)),
                    "trusted_callers": ["10.0.0.0/24"],
                }
            },
        )
        await self.reconcile()

    async def rotate_keys(self) -> None:
        await self.ask(lambda plane: plane.rotate_keys(silent))

    async def schedule(self) -> None:
        """Move the dial in steps; the runner may die at any of them, and others may meddle."""
        chance, deployment_id, record = self.world.chance, self.pick(), self.world.record
        ready = self.revisions(deployment_id, Lifecycle.READY)
        if len(ready) < 2:
            return
        whose = {"deployment_id": deployment_id, "schedule_id": record.mint(), "runner": record.mint()}
        target = [{"revision_id": chance.choice(ready).revision_id, "weight_bps": 10_000}]
        pins = self.pins()
        applied = record.apply(
            "traffic begin-schedule",
            **whose,
            entries=target,
            steps=[100, 1_000, 5_000, 10_000],
            over_seconds=4,
            updated_by="sim",
            **({} if pins is None else {"pins": pins}),
        )
        await self.publish(deployment_id)
        schedule = applied.environment.schedule(deployment_id)
        assert schedule is not None
        for step in range(1, len(schedule.steps)):
            await asyncio.sleep(chance.expovariate(1))
            if chance.random() < 0.1:
                record.apply("traffic abort", deployment_id=deployment_id, updated_by="sim", gate="a gate failed")
            else:
                record.apply("traffic advance", **whose, step=step)
            await self.publish(deployment_id)
        record.apply("traffic finish", **whose)

    async def meddle(self) -> None:
        """End a schedule that somebody began."""
        deployment_id = self.pick()
        stay = self.world.chance.random() < 0.5
        self.world.record.apply("traffic abort", deployment_id=deployment_id, updated_by="sim", stay=stay)
        await self.publish(deployment_id)


class Accidents:
    """What nobody asked for."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def happen(self, pause: float) -> None:
        """One after the other, for ever."""
        chance = self.world.chance
        kinds = {
            self.kill_router: 2.0,
            self.freeze_router: 2.0,
            self.part: 2.0,
            self.kill_worker: 1.0,
            self.kill_runtime: 0.7,
        }
        while True:
            await asyncio.sleep(chance.expovariate(1 / pause))
            kind = chance.choices(list(kinds), list(kinds.values()))[0]
            self.world.counts[kind.__name__] += 1
            await kind()

    async def kill_router(self) -> None:
        if self.world.router_processes:
            process = self.world.chance.choice(list(self.world.router_processes))
            self.world.did(f"kill {process.name}")
            process.kill()

    async def freeze_router(self) -> None:
        if self.world.router_processes:
            process = self.world.chance.choice(list(self.world.router_processes))
            self.world.did(f"freeze {process.name}")
            process.freeze()
            self.world.loop.call_later(self.world.chance.expovariate(1 / 4), self._thaw, process)

    def _thaw(self, process: Any) -> None:
        self.world.did(f"thaw {process.name}")
        process.thaw()

    async def part(self) -> None:
        """A router and the runtime hear nothing of each other for a while."""
        if self.world.control_wires:
            wire = self.world.chance.choice(self.world.control_wires)
            self.world.did("part")
            wire.hold()
            self.world.loop.call_later(self.world.chance.expovariate(1 / 4), wire.release)

    async def kill_worker(self) -> None:
        runtime = self.world.runtime
        workers = runtime.plane._workers.all() if runtime is not None else ()
        if workers:
            supervision: Any = self.world.chance.choice(workers).supervision
            assert isinstance(supervision, SimSupervision)
            assert runtime is not None
            self.world.did(f"kill the worker of {supervision._revision_id[-2:]}")
            runtime.process.call(supervision.crash)

    async def kill_runtime(self) -> None:
        world = self.world
        if world.runtime is not None:
            world.did("kill the runtime")
            world.crash()
            await asyncio.sleep(world.chance.expovariate(1 / 2))
            world.did("start a runtime")
            world.boot()


def stage(world: World, deployment_id: str) -> str:
    """A new revision; its id."""
    revision_id = world.record.mint()
    world.record.apply(
        "revisions stage",
        revision_id=revision_id,
        deployment_id=deployment_id,
        bundle_digest="sha256:" + "ab" * 32,
        pack_list=[{"pack_id": "hello", "version": "1.0.0", "digest": "sha256:" + "cd" * 32}],
        pack_list_lock_ref=f"revisions/{revision_id}/pack-list.lock",
        pack_config_refs=[f"revisions/{revision_id}/pack-configs/hello.json"],
        config_digest="sha256:" + "ef" * 32,
        drain_seconds=world.chance.choice((1, 10, 30)),
    )
    return revision_id
