"""What a check is given: the record, the bench, a deployer, and ways to look and to ask."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from greentic.conformance.bundles import HEALTHY
from greentic.conformance.checking import Failed, expect
from greentic.conformance.requests import Client
from greentic.conformance.scene import Scene, host
from greentic.envpacks.bench import Bench, Thing
from greentic.envpacks.deployer import Deployer, DrainReport, Observation, Receipt
from greentic.spec.errors import GreenticError

BOUND_SECONDS = 5.0
"""How soon what was acknowledged must be seen by everybody."""
LANES = 4
"""Connections over which many requests are sent."""


class Stage:
    """One check's own world."""

    deployer: Deployer
    """The deployer as the newest process of the tool has it."""

    def __init__(self, bench: Bench, kind: str) -> None:
        self.bench = bench
        self.scene = Scene(bench.environment_id, bench.folder, kind)
        self._clients: list[Client] = []

    async def enter(self) -> None:
        """Begin, or go on as another process of the tool would."""
        self.deployer = await self.bench.deployer()

    # Getting somewhere

    async def warm(self, revision_id: str) -> None:
        """Stage and warm at the provider, then record the revision ready."""
        await self.deployer.stage_revision(self.scene.desired, revision_id)
        self.scene.warming(revision_id)
        await self.deployer.warm_revision(self.scene.desired, revision_id)
        self.scene.ready(revision_id)

    async def serving(self, name: str, *weights: int, customer: str = "customer-one") -> tuple[str, list[str]]:
        """A deployment with one warm revision per weight, live at these weights: (deployment, revisions)."""
        deployment_id = self.scene.deployment(name, customer)
        revisions = [
            self.scene.staged(deployment_id, HEALTHY, f"{number}.0.0") for number in range(1, len(weights) + 1)
        ]
        await asyncio.gather(*(self.deployer.stage_revision(self.scene.desired, one) for one in revisions))
        for one in revisions:
            self.scene.warming(one)
        for one in revisions:
            await self.deployer.warm_revision(self.scene.desired, one)
            self.scene.ready(one)
        await self.move(deployment_id, dict(zip(revisions, weights, strict=True)))
        return deployment_id, revisions

    async def move(self, deployment_id: str, weights: Mapping[str, int]) -> Receipt:
        """Record a split and have it applied."""
        self.scene.split(deployment_id, **weights)
        return await self.apply(deployment_id)

    async def apply(self, deployment_id: str) -> Receipt:
        """Have the recorded split applied."""
        return await self.deployer.apply_traffic_split(self.scene.desired, deployment_id)

    async def end(self, revision_id: str) -> DrainReport:
        """Drain and archive a revision without a share."""
        self.scene.draining(revision_id)
        report = await self.deployer.drain_revision(self.scene.desired, revision_id)
        self.scene.drained(revision_id)
        self.scene.archived(revision_id)
        await self.deployer.archive_revision(self.scene.desired, revision_id)
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
        return counted

    @asynccontextmanager
    async def asking(self, name: str, pause: float = 0.002) -> AsyncIterator[list[tuple[float, str]]]:
        """Ask all the time, as new visitors: (when the request was sent, who answered), as long as the block lasts."""
        seen: list[tuple[float, str]] = []
        client = await self.client()

        async def ask() -> None:
            while True:
                sent = time.monotonic()
                try:
                    answer = await client.get("/", host(name))
                    seen.append((sent, answer.revision or f"status {answer.status}"))
                except Failed as error:
                    seen.append((sent, str(error)))
                await asyncio.sleep(pause)

        task = asyncio.create_task(ask())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        """Close connections, then the world."""
        for client in self._clients:
            await client.close()
        await self.bench.close()


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


_PREVIEW = re.compile(r"[A-Za-z0-9_.~-]{20,1024}")


def plausible_token(text: str) -> bool:
    """Whether a preview token can travel in a URL and a header."""
    return _PREVIEW.fullmatch(text) is not None
