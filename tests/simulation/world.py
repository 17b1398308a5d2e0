"""The machine: its record, its runtime with routers and workers, and what can happen to them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import types
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from tests.simulation.loop import EPOCH, Process, VirtualLoop, context_of, here, signal_to
from tests.simulation.oracle import Oracle, Source
from tests.simulation.wires import End, Listener, Wire

from greentic.engine.command import Command, Outcome
from greentic.engine.transition import transition
from greentic.envpacks.deployer import DesiredState
from greentic.providers.local import desired as kept
from greentic.providers.local import instance, keys
from greentic.providers.local.layout import Layout
from greentic.providers.local.plane import DataPlane
from greentic.providers.local.routing import Routers
from greentic.providers.local.workers import Worker, Workers
from greentic.router import process as router_process
from greentic.router import secure, session_pins
from greentic.router.balance import Balance
from greentic.router.client import ClientConnection
from greentic.router.forwarding import Exchange
from greentic.router.gateway import Gateway
from greentic.router.lease import Readiness
from greentic.router.memory_pins import MemoryPins
from greentic.router.pins import Admissible, Pin, PinScope
from greentic.router.pool import UpstreamPool
from greentic.router.sequence import VisitorSequence
from greentic.router.upstream import UpstreamConnection
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError, ProviderError
from greentic.spec.verbs import find
from greentic.worker.supervision import State, Status

LEASE_SECONDS = 4.0
SHARED = "greentic.sessions.simulated"
FAST, SLOW = 0.000_3, 0.004
"""Mean delays in seconds: within the machine, and to users."""


class Gone(ProviderError):
    """Nobody answers at the runtime's socket, or not any more."""


class Record:
    """What the store keeps: an environment and its generation. A change is one step, as the store promises."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.environment: Environment | None = None
        self.generation = 0
        self._minted = 0

    @property
    def desired(self) -> DesiredState:
        assert self.environment is not None
        return DesiredState(self.environment, self.generation)

    def mint(self) -> str:
        """A new ULID."""
        self._minted += 1
        return f"01K{self._minted:023d}"

    def now(self) -> str:
        moment = datetime.fromtimestamp(EPOCH + self._world.loop.time(), UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def apply(self, name: str, /, **payload: Any) -> Outcome:
        """Carry out a verb. Raises what the engine refuses with."""
        noun, _, verb = name.partition(" ")
        command = Command(
            "sim", noun, verb, find(noun, verb).payload().model_validate(payload), f"key-{self.mint()}", "sim"
        )
        outcome = transition(self.environment, command, self.now())
        if outcome.changed:
            before, self.environment = self.environment, outcome.environment
            self.generation += 1
            self._world.oracle.committed(self.generation, before, self.environment, EPOCH + self._world.loop.time())
            self._world.did(f"{name} -> {self.generation}")
        if outcome.failure is not None:
            raise outcome.failure
        return outcome


class WorkerServer:
    """A worker's process, which answers with its revision's id."""

    def __init__(self, world: World, revision_id: str, port: int) -> None:
        self.world = world
        self.revision_id = revision_id
        self.process = Process(world.loop, f"worker {revision_id[-2:]}:{port}")


class _WorkerConnection(asyncio.Protocol):
    def __init__(self, server: WorkerServer) -> None:
        self._server = server
        self._data = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        _, end, rest = self._data.partition(b"\r\n\r\n")
        if end:
            self._data = rest
            world = self._server.world
            world.counts["reached a worker"] += 1
            chance = world.chance
            seconds = chance.expovariate(200) if chance.random() < 0.97 else chance.uniform(1, 25)
            world.loop.call_later(seconds, self._answer)

    def _answer(self) -> None:
        chance = self._server.world.chance
        status = b"200 OK" if chance.random() < 0.9 else chance.choice((b"401 Unauthorized", b"302 Found", b"404 No"))
        body = self._server.revision_id.encode()
        self._transport.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


class SimSupervision:
    """In the place of `greentic.worker.supervision.Supervision`: starts take time, ends can come at any moment."""

    launch = None
    tail: tuple[str, ...] = ()

    def __init__(self, world: World, revision_id: str) -> None:
        self._world = world
        self._revision_id = revision_id
        self.worker: Worker
        self.changed: Callable[[], None]
        self.status = Status()
        self.fails = False
        self._server: WorkerServer | None = None
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._ended = asyncio.Event()

    def start(self, *, keep: bool) -> None:
        if self._task is None or self._task.done():
            self.fails = not keep and self._world.chance.random() < 0.05
            self._world.dismissed.discard(self._revision_id)
            self._set(Status(State.STARTING))
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def settled(self) -> Status:
        return await self.wait(*(state for state in State if state is not State.STARTING))

    async def wait(self, *states: State) -> Status:
        while self.status.state not in states:
            await self._moved.wait()
        return self.status

    async def stop(self, grace_seconds: float = 10.0) -> None:
        process = here()
        if process is not None and process.alive:
            self._world.dismissed.add(self._revision_id)
            self._world.did(f"the worker of {self._revision_id[-2:]} is ended")
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._end()
        self._set(Status())

    def crash(self) -> None:
        """The worker ends by itself."""
        self._end()

    async def _run(self) -> None:
        restarts = 0
        while True:
            await asyncio.sleep(self._world.chance.uniform(0.05, 0.8))
            if self.fails:
                self._set(Status(State.FAILED, "it does not answer"))
                return
            if restarts:
                self.worker.port = self._world.port()
            self._server = WorkerServer(self._world, self._revision_id, self.worker.port)
            self._world.servers[self.worker.port] = self._server
            self._set(Status(State.HEALTHY, restarts=restarts))
            self._ended.clear()
            await self._ended.wait()
            restarts += 1
            self._set(Status(State.BACKING_OFF, restarts=restarts))
            await asyncio.sleep(self._world.chance.uniform(0.1, 0.5))
            self._set(Status(State.STARTING, restarts=restarts))

    def _end(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            self._world.servers.pop(self.worker.port, None)
            self._world.crashed[self._revision_id] = self._world.loop.time()
            server.process.kill()
            self._ended.set()

    def _set(self, status: Status) -> None:
        self.status = status
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        self.changed()


class SimWorkers(Workers):
    """The real register of workers; what it starts is simulated."""

    world: World

    def _new(self, revision: Any, deployment: Any) -> Worker:
        supervision = SimSupervision(self.world, revision.revision_id)
        worker = Worker(revision.revision_id, deployment.deployment_id, self.world.port(), supervision)  # type: ignore[arg-type]
        supervision.worker = worker
        supervision.changed = lambda: self.changed(worker)
        return worker

    def forget(self, revision_id: str) -> None:
        pass


class SimRouters(Routers):
    """The real supervision of routers, which remembers what each table was made of."""

    world: World
    plane: DataPlane

    async def publish(self, table: dict[str, Any], *arguments: Any) -> Any:
        plane = self.plane
        source = Source(
            plane.desired.generation,
            frozenset(plane._draining),
            frozenset(plane._ended),
            frozenset(plane._workers.addresses()),
            frozenset(key["kid"] for key in table["keys"]["ring"]),
        )
        table = {**table, "sim_source": self.world.oracle.source(source)}
        if self.world.shared_pins is not None:
            table["pins"] = {"kind": SHARED, "settings": {}}
        return await super().publish(table, *arguments)


class SimGateway(Gateway):
    """The real state of a router process, watched."""

    def __init__(self) -> None:
        super().__init__()
        self.process = here()
        self.world: World = WORLD[0]
        self.renewed = (float("-inf"), 0.0, -1)
        self.source = -1
        self.world.gateways.append(self)
        assert self.process is not None
        self.process.on_kill.append(self._killed)

    def _killed(self) -> None:
        self._ticker.cancel()
        self.world.gateways.remove(self)

    def configure(self, table: Any) -> dict[str, Any]:
        answer = super().configure(table)
        self.source = table["sim_source"]
        self.world.oracle.configured(self)
        return answer

    def renew_lease(self, seconds: float, newest: int) -> Readiness:
        self.renewed = (self._loop.time(), seconds, newest)
        return super().renew_lease(seconds, newest)

    def _tick(self) -> None:
        super()._tick()
        self.world.oracle.claims(self, self.readiness())


class SimClient(ClientConnection):
    """The real connection; its place in a set follows from the life, not from where the memory was."""

    __slots__ = ("_number",)

    def __init__(self, gateway: Gateway) -> None:
        world = WORLD[0]
        world.clients += 1
        self._number = world.clients
        super().__init__(gateway)

    def __hash__(self) -> int:
        return self._number


class SharedPins:
    """A store that the routers share and wait for; soft failures when it has bad moments."""

    def __init__(self, world: World) -> None:
        self._world = world
        assert world.shared_pins is not None
        self._pins = world.shared_pins

    async def _reach(self) -> bool:
        chance = self._world.chance
        await asyncio.sleep(chance.expovariate(1 / 0.002) if chance.random() < 0.95 else chance.uniform(0.05, 0.5))
        return chance.random() >= self._world.pin_failures

    async def lookup(self, scope: PinScope, hint: bytes, admissible: Admissible, now: float) -> Pin | None:
        return self._pins.look(scope, hint, admissible, now) if await self._reach() else None

    async def try_pin(self, scope: PinScope, hint: bytes, pin: Pin, admissible: Admissible, now: float) -> Pin | None:
        return self._pins.put(scope, hint, pin, admissible, now) if await self._reach() else None

    async def counts(self, scope: PinScope, now: float) -> dict[str, int]:
        return dict(self._pins.live(scope, now))

    def document(self) -> dict[str, Any]:
        return {"failures": {}, "skipped": 0}

    async def close(self) -> None:
        pass


class SimSocket:
    """What `socket.socketpair` gives: the number goes to a child, the rest stays."""

    def __init__(self, world: World, end: End) -> None:
        self._end = end
        self._number = len(world.descriptors) + 1000
        world.descriptors[self._number] = self

    def fileno(self) -> int:
        return self._number

    def setblocking(self, _: bool) -> None:
        pass

    def close(self) -> None:
        pass

    def attach(self, protocol: Any) -> tuple[End, Any]:
        return self._end.belongs_to(here()).attach(protocol)


class SimSubprocess:
    """In the place of `greentic.worker.process.Subprocess`, for routers."""

    def __init__(self, world: World, process: Process) -> None:
        self._process = process
        world.pids += 1
        self.pid = world.pids
        self._exit: asyncio.Future[int] = world.loop.create_future()
        self.status = -9
        process.on_kill.append(lambda: world.loop.call_soon(self._ended, context=context_of(None)))

    def _ended(self) -> None:
        if not self._exit.done():
            self._exit.set_result(self.status)

    @classmethod
    async def spawn(cls, argv: Any, environment: Any, directory: Any, log: Any, **_: Any) -> SimSubprocess:
        world = WORLD[0]
        numbers = dict(zip(argv[4::2], argv[5::2], strict=True))
        balance = Balance(int(numbers["--balance-fd"]), int(numbers["--place"]))
        process = Process(world.loop, f"router {world.pids + 1}")
        made = cls(world, process)
        world.router_processes[process] = made
        control = world.descriptors.pop(int(numbers["--control-fd"]))
        assert isinstance(control, SimSocket)
        runtime = here()
        assert runtime is not None
        control._end.belongs_to(process)

        async def run() -> None:
            await asyncio.sleep(world.chance.uniform(0.05, 0.4))
            await router_process.serve(world.listener, control, balance)  # type: ignore[arg-type]

        def over(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                world.loop.failures.append(task.exception())  # type: ignore[arg-type]
            made.status = 0 if process.alive else -9
            process.kill()

        process.on_kill.append(lambda: world.router_processes.pop(process, None))
        process.start(run()).add_done_callback(over)
        return made

    async def exit(self) -> int:
        return await asyncio.shield(self._exit)

    async def stop(self, grace_seconds: float = 10.0) -> int:
        if not self._exit.done():
            signal_to(self._process, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    return await self.exit()
            self._process.kill()
        return await self.exit()


class _Log:
    path = Path("router.log")

    def close(self) -> None:
        pass


class _Journal:
    def __init__(self, world: World) -> None:
        self._world = world

    def event(self, event: str, **facts: Any) -> None:
        if event != "worker":
            self._world.did(f"{event} {facts}")


class Runtime:
    """One life of the runtime's process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.process = Process(world.loop, "runtime")
        self._asked: set[asyncio.Future[Any]] = set()
        self.plane: DataPlane
        self.routers: SimRouters
        self.process.on_kill.append(self._killed)
        self.process.call(self._build)
        self.process.start(self._open())

    def _build(self) -> None:
        world = self.world
        layout = Layout(world.folder / "env")
        layout.prepare()
        keys.ensure(layout.keys)
        saved = kept.load(layout.desired) if world.chance.random() < 0.5 else None
        given = world.record.desired
        # As the runtime does: what a verb brings, or what was followed last when nobody brought anything.
        state = given if saved is None else saved
        journal: Any = _Journal(world)
        workers = SimWorkers(layout, {}, lambda worker: self.plane.worker_changed(worker))
        workers.world = world
        log: Any = _Log()
        routers = SimRouters(world.listener, {}, Path(), log, journal.event, lease_seconds=LEASE_SECONDS)  # type: ignore[arg-type]
        routers.world = world
        self.routers = routers
        self.plane = DataPlane(layout, state, workers, routers, "127.0.0.1:8080", journal)
        routers.plane = self.plane

    async def _open(self) -> None:
        with contextlib.suppress(GreenticError):
            await self.plane.open()

    def _killed(self) -> None:
        for future in tuple(self._asked):
            if not future.done():
                future.set_exception(Gone("the runtime is gone"))
        for worker in self.plane._workers.all():
            supervision: Any = worker.supervision
            supervision._end()
        self.routers._places.close()

    async def ask(self, work: Callable[[DataPlane], Any]) -> Any:
        """What `work` comes to in this process, asked over its control socket; Gone when it does not live to tell."""
        loop = self.world.loop
        if not self.process.alive:
            raise Gone("no runtime runs")
        answer: asyncio.Future[Any] = loop.create_future()
        self._asked.add(answer)

        async def carry_out() -> None:
            try:
                result = await work(self.plane)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        await asyncio.sleep(self.world.chance.expovariate(1 / FAST))
        if self.process.alive:
            self.process.start(carry_out())
        try:
            async with asyncio.timeout(120):
                return await answer
        except TimeoutError:
            raise Gone("the runtime does not answer") from None
        finally:
            self._asked.discard(answer)


WORLD: list[World] = []
"""The one that lives; what stands in for classes of the product finds it here."""


class World:
    """Everything there is in one life."""

    def __init__(self, seed: int, folder: Path, trace: Callable[[str], None] | None = None) -> None:
        self.loop = VirtualLoop()
        self.chance = random.Random(seed)
        self.folder = folder
        self.trace = trace
        self.steps = 0
        self.digest = 0
        self.counts: Counter[str] = Counter()
        self.oracle = Oracle(self)
        self.record = Record(self)
        self.listener = Listener(self.loop, self.chance)
        self.gateways: list[SimGateway] = []
        self.servers: dict[int, WorkerServer] = {}
        self.router_processes: dict[Process, SimSubprocess] = {}
        self.descriptors: dict[int, Any] = {}
        self.control_wires: list[Wire] = []
        self.crashed: dict[str, float] = {}
        self.dismissed: set[str] = set()
        """Revisions whose workers were ended on purpose."""
        self.pids = self.clients = 0
        self._ports = 20_000
        self.runtime: Runtime | None = None
        self.shared_pins = MemoryPins() if self.chance.random() < 0.4 else None
        self.pin_failures = self.chance.choice((0.0, 0.02))

    def did(self, what: str) -> None:
        """Something happened: it belongs to the trace, by which two lives of one seed are the same."""
        self.steps += 1
        self.digest = hash_of(self.digest, f"{self.loop.time():.6f} {what}")
        if self.trace is not None:
            self.trace(f"{self.loop.time():10.4f}  {what}")

    def wall(self) -> float:
        """What the wall clock says, in unix seconds."""
        return EPOCH + self.loop.time()

    def port(self) -> int:
        """A port that nobody had."""
        self._ports = self._ports + 1 if self._ports < 60_000 else 20_000
        return self._ports

    def boot(self) -> None:
        """Start the runtime; what a predecessor left behind is ended first, as it does."""
        for process in list(self.router_processes):
            process.kill()
        self.runtime = Runtime(self)

    def crash(self) -> None:
        """Kill the runtime; its workers go with it, its routers notice."""
        if self.runtime is not None:
            self.runtime.process.kill()
            self.runtime = None

    def wire(self, slowness: float) -> Wire:
        """A new wire."""
        return Wire(self.loop, self.chance, slowness)

    def socketpair(self) -> tuple[SimSocket, SimSocket]:
        """A control socket: parent's end, router's end."""
        wire = self.wire(FAST)
        self.control_wires = [one for one in self.control_wires if not (one.ends[0]._lost and one.ends[1]._lost)]
        self.control_wires.append(wire)
        return SimSocket(self, wire.ends[0]), SimSocket(self, wire.ends[1])

    @contextlib.contextmanager
    def instead(self) -> Iterator[None]:
        """The simulated parts in the places of the real ones, and the oracle where decisions are made."""
        begin, end, draw = Exchange._begin, Exchange._end, VisitorSequence.draw
        oracle = self.oracle

        async def opened(pool: UpstreamPool) -> UpstreamConnection:
            await asyncio.sleep(self.chance.expovariate(1 / FAST))
            server = self.servers.get(pool.address[1])
            if server is None or not server.process.alive:
                raise ConnectionRefusedError
            near, far = self.wire(FAST).ends
            near.belongs_to(here())
            far.belongs_to(server.process)
            server.process.call(far.attach, _WorkerConnection(server))
            upstream = UpstreamConnection(pool, near)  # type: ignore[arg-type]
            near.attach(upstream)
            return upstream

        def began(exchange: Exchange, decision: Any) -> None:
            oracle.decided(exchange, decision)
            begin(exchange, decision)

        def ended(exchange: Exchange) -> None:
            oracle.ended(exchange)
            end(exchange)

        def drawn(sequence: VisitorSequence) -> tuple[int, int] | None:
            found = draw(sequence)
            oracle.drawn(sequence, found)
            return found

        point = types.SimpleNamespace(load=lambda: lambda _: SharedPins(self))
        points = lambda group, name: [point] if name == SHARED else []  # noqa: E731
        sockets = types.SimpleNamespace(socketpair=self.socketpair, socket=socket.socket)
        WORLD[:] = [self]
        with contextlib.ExitStack() as stack:
            for target, name, stand_in in (
                (UpstreamPool, "open", opened),
                (Exchange, "_begin", began),
                (Exchange, "_end", ended),
                (VisitorSequence, "draw", drawn),
                (router_process, "Gateway", SimGateway),
                (router_process, "gc", mock.Mock()),
                (secure, "ClientConnection", SimClient),
                (instance, "Subprocess", SimSubprocess),
                (instance, "socket", sockets),
                (session_pins, "entry_points", points),
            ):
                stack.enter_context(mock.patch.object(target, name, stand_in))
            yield
        WORLD.clear()


def hash_of(before: int, text: str) -> int:
    """A running digest that is the same in every Python."""
    return zlib.crc32(text.encode(), before)
