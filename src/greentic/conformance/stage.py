"""What a check is given: the record, the bench, a deployer, and ways to look and to ask."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from greentic.conformance.bundles import HEALTHY
from greentic.conformance.checking import Failed, expect
from greentic.conformance.requests import Client
from greentic.conformance.scene import Scene, host
from greentic.envpacks.bench import Bench, Thing
from greentic.envpacks.deployer import Deployer, DrainReport, Observation, Receipt
from greentic.spec.errors import GreenticError
from greentic.spec.traffic import PinPolicy

BOUND_SECONDS = 5.0
"""How soon what was acknowledged must be seen by everybody."""
LANES = 4
"""Connections over which many requests are sent."""
PAUSE_SECONDS = 0.002


class Asking:
    """One visitor after the other, on one connection."""

    def __init__(self, client: Client, hostname: str) -> None:
        self.seen: list[tuple[float, str]] = []
        """When each request was sent (seconds of `time.monotonic`), and who answered."""
        self._client = client
        self._host = hostname

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            sent = time.monotonic()
            try:
                answer = await self._client.get("/", self._host)
                self.seen.append((sent, answer.revision or f"status {answer.status}"))
            except Failed as error:
                self.seen.append((sent, str(error)))
            await asyncio.sleep(PAUSE_SECONDS)

    async def more(self, requests: int = 5) -> None:
        """Wait until that many more were answered."""
        wanted = len(self.seen) + requests

        async def there() -> bool:
            return len(self.seen) >= wanted

        await eventually(there, "nobody answers", 2 * BOUND_SECONDS)

    def others(self, *expected: str) -> list[str]:
        """Who answered and was not to."""
        return [who for _, who in self.seen if who not in expected]


class Stage:
    """One check's own world."""

    deployer: Deployer
    """The deployer as the newest process of the tool has it."""

    def __init__(self, bench: Bench, kind: str) -> None:
        self.bench = bench
        self.scene = Scene(bench.environment_id, bench.folder, kind)
        self.said: list[str] = []
        """What the deployer has said while it worked."""
        self._clients: list[Client] = []

    async def enter(self) -> None:
        """Begin, or go on as another process of the tool would."""
        self.deployer = await self.bench.deployer()

    # Getting somewhere

    def say(self, line: str) -> None:
        """Hear what the deployer says while it works."""
        self.said.append(line)

    async def stage(self, *revisions: str) -> None:
        """Stage at the provider."""
        for one in revisions:
            await self.deployer.stage_revision(self.scene.desired, one, self.say)

    async def warm(self, *revisions: str) -> None:
        """Warm what is staged, then record it ready."""
        for one in revisions:
            self.scene.warming(one)
        for one in revisions:
            await self.deployer.warm_revision(self.scene.desired, one, self.say)
            self.scene.ready(one)

    async def warmed(self, deployment_id: str, version: str = "1.0.0", **frozen: int) -> str:
        """A new revision of the suite's worker, warm and without a share."""
        revision = self.scene.staged(deployment_id, HEALTHY, version, **frozen)
        await self.stage(revision)
        await self.warm(revision)
        return revision

    async def serving(
        self, name: str, *weights: int, customer: str = "customer-one", **route: Any
    ) -> tuple[str, list[str]]:
        """A deployment with one warm revision per weight, live at these weights: (deployment, revisions)."""
        deployment_id = self.scene.deployment(name, customer, **route)
        revisions = [
            self.scene.staged(deployment_id, HEALTHY, f"{number}.0.0") for number in range(1, len(weights) + 1)
        ]
        await self.stage(*revisions)
        await self.warm(*revisions)
        await self.move(deployment_id, dict(zip(revisions, weights, strict=True)))
        return deployment_id, revisions

    async def move(self, deployment_id: str, weights: Mapping[str, int], pins: PinPolicy | None = None) -> Receipt:
        """Record a split and have it applied."""
        self.scene.split(deployment_id, weights, pins)
        return await self.apply(deployment_id)

    async def apply(self, deployment_id: str) -> Receipt:
        """Have the recorded split applied."""
        return await self.deployer.apply_traffic_split(self.scene.desired, deployment_id, self.say)

    async def drain(self, revision_id: str) -> DrainReport:
        """Record that a revision is drained, and have it drained."""
        self.scene.draining(revision_id)
        report = await self.deployer.drain_revision(self.scene.desired, revision_id, self.say)
        self.scene.drained(revision_id)
        return report

    async def archive(self, revision_id: str) -> None:
        """Record that a revision is archived, and have it archived."""
        self.scene.archived(revision_id)
        await self.deployer.archive_revision(self.scene.desired, revision_id, self.say)

    async def end(self, revision_id: str) -> DrainReport:
        """Drain and archive a revision without a share."""
        report = await self.drain(revision_id)
        await self.archive(revision_id)
        return report

    # Looking

    async def things(self, kind: str | None = None, owner: str | None = None) -> tuple[Thing, ...]:
        """What exists at the provider, of a kind and an owner."""
        world = await self.bench.world()
        return tuple(
            one for one in world if (kind is None or one.kind == kind) and (owner is None or one.owner == owner)
        )

    async def workers(self, *revisions: str) -> dict[str, tuple[str, ...]]:
        """The identities of the workers that exist, by revision."""
        world = await self.things("worker")
        return {
            name: tuple(sorted(one.identity for one in world if one.owner == name))
            for name in revisions or sorted({one.owner or "" for one in world})
        }

    async def lasting(self) -> frozenset[tuple[str, str, str | None, str]]:
        """Everything that exists but traces, to compare."""
        return frozenset(
            (one.kind, one.name, one.owner, one.identity) for one in await self.bench.world() if one.kind != "trace"
        )

    async def observe(self) -> Observation:
        """What the deployer says it sees."""
        return await self.deployer.observe(self.scene.desired)

    async def client(self) -> Client:
        """A connection of its own to where the deployer says the environment is reached."""
        url = (await self.observe()).url
        if url is None:
            raise Failed("the deployer names no URL although it was asked to serve")
        client = Client(url)
        self._clients.append(client)
        return client

    async def routers(self) -> int:
        """How many routers there are."""
        return max(1, len(await self.things("router")))

    async def counts(self, name: str, requests: int, path: str = "/") -> Counter[str]:
        """How often each revision answered that many requests of visitors without a cookie."""
        clients = [await self.client() for _ in range(min(LANES, requests))]
        counted: Counter[str] = Counter()

        async def lane(client: Client, share: int) -> None:
            for _ in range(share):
                answer = await client.get(path, host(name))
                counted[answer.revision or f"status {answer.status}"] += 1

        size, rest = divmod(requests, len(clients))
        await asyncio.gather(*(lane(client, size + (index < rest)) for index, client in enumerate(clients)))
        for client in clients:
            await client.close()
        return counted

    @asynccontextmanager
    async def asking(self, name: str) -> AsyncIterator[Asking]:
        """Ask all the time, as new visitors, as long as the block lasts."""
        asking = Asking(await self.client(), host(name))
        task = asyncio.create_task(asking.run())
        try:
            yield asking
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def leave(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()


async def eventually(condition: Callable[[], Awaitable[bool]], otherwise: str, seconds: float = BOUND_SECONDS) -> float:
    """Wait until `condition` holds: the seconds that it took. Failed with `otherwise` after `seconds`."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"{otherwise} within {seconds:g} s")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def refused(call: Awaitable[object], kinds: Iterable[str], asked: str) -> GreenticError:
    """The error with which `call` is refused; Failed when it is carried out, or refused as something else."""
    wanted = tuple(kinds)
    try:
        await call
    except GreenticError as error:
        expect(error.kind in wanted, f"{asked}: refused as {error.kind} ({error.message}), not {' or '.join(wanted)}")
        return error
    raise Failed(f"{asked}: it was carried out")


def uncalled(stage: Stage, made: int) -> None:
    """Failed when the provider was called since so many calls had been `made`."""
    calls = stage.bench.calls()[made:]
    called = ", ".join(f"{one.permission} {one.target}" for one in calls[:5])
    expect(not calls, f"the provider was called: {called}")


_PREVIEW = re.compile(r"[A-Za-z0-9_.~-]{20,1024}")


def plausible_token(text: str) -> bool:
    """Whether a preview token can travel in a URL and a header."""
    return _PREVIEW.fullmatch(text) is not None
