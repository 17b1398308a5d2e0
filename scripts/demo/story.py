"""What happens, in order: build, deploy, stage beside it, preview, move the dial under load, undo."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from demo.commands import Gtc, Ran
from demo.figures import EVERYTHING, Flips, Seen, Switch
from demo.load import Connection, Load
from demo.screen import Screen, since
from demo.state import ENVIRONMENT, State

NAME = "helpdesk"
V1, V2 = "v1", "v2"
SETTLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much the demo does.

    On a machine that is slow or busy `patience` ends a step after so many seconds with fewer requests, and `stamina`
    ends the moves there and back; neither lessens what is promised.
    """

    requests: int = 2000
    flips: int = 30
    stamina: float = 20.0
    ordinary: int = 200
    connections: int = 8
    rate: float = 900.0
    patience: float = 8.0


SHORT = Size(requests=500, flips=6, ordinary=50)


@dataclass(slots=True)
class Story:
    """One run. `broken` collects every promise that did not hold."""

    state: State
    screen: Screen
    size: Size
    broken: list[str] = field(default_factory=list)
    address: tuple[str, int] | None = None
    url: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    _epoch: int = field(default_factory=lambda: time.time_ns() - time.perf_counter_ns())

    @property
    def gtc(self) -> Gtc:
        return self.state.gtc

    async def run(self) -> None:
        """All of it. What runs at the end is for the caller to stop."""
        bundles = await self._build()
        await self._deploy(bundles)
        await self._preview()
        await self._dial()

    async def _build(self) -> dict[str, Path]:
        self.screen.heading("Build two versions of a worker")
        bundles = {}
        for version in (V1, V2):
            source = self.state.repository / "examples" / "helpdesk" / version
            archive = self.state.folder / f"helpdesk-{version}.gtbundle"
            built = await self._gtc("bundle", "build", str(source), "--output", str(archive))
            again = await self.gtc.run("bundle", "build", str(source), "--output", f"{archive}.again")
            if built.result["digest"] != again.result["digest"] or not _same(archive, Path(f"{archive}.again")):
                self.broken.append(f"building {version} twice gave two different archives")
            digest = built.result["digest"][:23]
            self.screen.note(f"{digest}…  {built.result['size_bytes']} bytes, the same when built again")
            bundles[version] = archive
        return bundles

    async def _deploy(self, bundles: Mapping[str, Path]) -> None:
        self.screen.heading("Create the environment and deploy version 1")
        # Port 0: the system chooses one that is free.
        await self._gtc("op", "env", "init", ENVIRONMENT, "--listen-addr", "127.0.0.1:0")
        with self.screen.waiting("starting"):
            first = await self._gtc("op", "deploy", NAME, "--bundle", str(bundles[V1]))
        self._learn(V1, first)
        self.screen.note((self.url, "bold"), f" answers by v1, {since(first.began, first.ended)} after the command")
        self.screen.heading("Stage and warm version 2 quietly beside it")
        with self.screen.waiting("warming"):
            second = await self._gtc("op", "deploy", NAME, "--bundle", str(bundles[V2]), "--traffic", "0%")
        self._learn(V2, second)
        self.screen.note(f"v2 is ready at 0 %, {since(second.began, second.ended)} after the command")

    def _learn(self, name: str, deployed: Ran) -> None:
        self.ids[name] = deployed.result["revision_id"]
        self.url = deployed.result["url"]
        parts = urlsplit(self.url)
        self.address = (parts.hostname or "", parts.port or 80)

    async def _preview(self) -> None:
        self.screen.heading("Look at version 2 before anybody else does")
        told = await self._gtc("op", "traffic", "preview", NAME, V2)
        header = "\r\n".join(f"{name}: {value}" for name, value in told.result["header"].items())
        assert self.address is not None
        connection = Connection(*self.address)
        question = "What is the status of ticket T-1042?"
        try:
            previewed = [await connection.ask(question, header) for _ in range(20)]
            ordinary = [await connection.ask(question) for _ in range(self.size.ordinary)]
        finally:
            connection.close()
        reached = sum(answer.revision == self.ids[V2] for answer in previewed)
        stayed = sum(answer.revision == self.ids[V1] for answer in ordinary)
        self.screen.note(f"{reached} of {len(previewed)} requests with the preview token reached v2")
        self.screen.note(f"{stayed} of {len(ordinary)} ordinary requests reached v1")
        if reached != len(previewed):
            self.broken.append(f"only {reached} of {len(previewed)} preview requests reached v2")
        if stayed != len(ordinary):
            self.broken.append(f"only {stayed} of {len(ordinary)} ordinary requests reached v1 while v2 was at 0 %")

    async def _dial(self) -> None:
        size = self.size
        self.screen.heading("Move the dial under load")
        self.screen.note(f"{size.connections} connections, {size.rate:.0f} requests a second, each a new visitor")
        names = {self.ids[V1]: V1, self.ids[V2]: V2}
        first = (await self.gtc.run("op", "traffic", "show", NAME)).result["generation"]
        rows: list[tuple[Seen, Switch | None]] = []
        async with self._load() as load:
            rows.append((await self._watch(load, "v1 100 %", first, {V1: EVERYTHING}), None))
            self.screen.seen(rows[-1][0], names)
            for share, title in ((100, "v2 1 %"), (1000, "v2 10 %"), (EVERYTHING, "v2 100 %")):
                words = [f"{V2}={share // 100}%", *([f"rest={V1}"] if share < EVERYTHING else [])]
                moved = await self._gtc("op", "traffic", "set", NAME, *words)
                shares = {V1: EVERYTHING - share, V2: share}
                rows.append(await self._moved(load, title, moved, shares))
                self.screen.seen(rows[-1][0], names)
                if share == 1000:
                    await self._visitor(load)
            self.screen.heading("Undo it in a moment")
            moved = await self._gtc("op", "traffic", "rollback", NAME, "--to", str(first))
            rows.append(await self._moved(load, "rollback", moved, {V1: EVERYTHING}))
            self.screen.seen(rows[-1][0], names)
            self.screen.summary(rows, names)
            flips = await self._flips(load)
            everything = len(load.answers)
        self.screen.note(f"{everything} requests in all")
        for seen, switch in rows:
            self.broken += seen.broken()
            self.broken += [] if switch is None else switch.broken(seen.title)
        self.broken += flips.broken()
        failed = [answer for answer in load.answers if answer.failed]
        if failed:
            self.broken.append(f"{len(failed)} of {everything} requests failed, the first with: {failed[0].problem}")

    @asynccontextmanager
    async def _load(self) -> AsyncIterator[Load]:
        assert self.address is not None
        load = Load(*self.address, connections=self.size.connections, rate=self.size.rate)
        load.start()
        try:
            yield load
        finally:
            await load.stop()

    async def _moved(self, load: Load, title: str, moved: Ran, shares: Mapping[str, int]) -> tuple[Seen, Switch | None]:
        """What clients see of the split that `moved` has put in place, and how long that took."""
        result = moved.result
        seen = await self._watch(load, title, result["generation"], shares)
        return seen, self._switch(load, moved)

    def _switch(self, load: Load, moved: Ran) -> Switch:
        moment = datetime.fromisoformat(moved.result["updated_at"].replace("Z", "+00:00"))
        recorded = round(moment.timestamp() * 1_000_000) * 1000 - self._epoch
        near = (answer for answer in reversed(load.answers) if answer.received > moved.began)
        return Switch.of(
            near,
            moved.result["generation"],
            began=moved.began,
            recorded=recorded,
            committed=self.state.committed() - self._epoch,
            told=moved.told,
            ended=moved.ended,
            receipt=moved.result["receipt"]["milliseconds"],
        )

    async def _watch(self, load: Load, title: str, generation: int, shares: Mapping[str, int]) -> Seen:
        """Wait for enough requests, then count all that `generation` decided up to a moment when none is in flight.

        That moment makes the counts exact: every draw the router made has been seen.
        """
        begun = len(load.answers)
        with self.screen.waiting(f"{title}: counting requests"):
            await load.count(begun + self.size.requests, self.size.patience)
        await load.pause()
        counted = [answer for answer in load.answers[begun:] if answer.failed or answer.generation == generation]
        early = [answer for answer in load.answers[:begun] if not answer.failed and answer.generation == generation]
        load.resume()
        by_id = {self.ids[name]: share for name, share in shares.items()}
        return Seen.of(title, generation, by_id, [*early, *counted])

    async def _visitor(self, load: Load) -> None:
        """A visitor that comes back with its cookie stays where it was."""
        assert self.address is not None
        connection = Connection(*self.address)
        visitor = next(answer for answer in reversed(load.answers) if answer.revision == self.ids[V2] and answer.cookie)
        try:
            back = [await connection.ask("Thank you", f"Cookie: {visitor.cookie.decode()}") for _ in range(50)]
        finally:
            connection.close()
        same = sum(answer.revision == self.ids[V2] for answer in back)
        self.screen.note(f"a visitor who was given v2 came back {len(back)} times: {same} times to v2")
        if same != len(back):
            self.broken.append(f"a visitor who was given v2 came back to it only {same} of {len(back)} times")

    async def _flips(self, load: Load) -> Flips:
        """Everything there and back, again and again: a second rollback undoes the first."""
        self.screen.heading("Many more moves, there and back, to see how soon clients see one")
        self.screen.command(self.gtc.line("op", "traffic", "rollback", NAME))
        switches: list[Switch] = []
        until = time.perf_counter() + self.size.stamina
        with self.screen.waiting("there and back"):
            for number in range(self.size.flips):
                if number % 2 == 0 and time.perf_counter() > until:
                    break
                moved = await self.gtc.run("op", "traffic", "rollback", NAME)
                await self._until(load)
                switches.append(self._switch(load, moved))
                self.broken += switches[-1].broken(f"flip {number + 1}")
        flips = Flips(switches)
        self.screen.flips(flips)
        return flips

    async def _until(self, load: Load) -> None:
        """Until every connection has been answered since the command returned."""
        begun = len(load.answers)
        await load.count(begun + 2 * self.size.connections, SETTLE_SECONDS)

    async def _gtc(self, *words: str) -> Ran:
        self.screen.command(self.gtc.line(*words))
        return await self.gtc.run(*words)


def _same(one: Path, other: Path) -> bool:
    """Whether two files are equal, byte by byte; the second one is removed."""
    same = one.read_bytes() == other.read_bytes()
    other.unlink()
    return same
