"""The runtime: the process that owns an environment on this machine.

    python -m greentic.providers.local.runtime --folder FOLDER --environment-id ID [--detach] [--ready-fd N]
    [--desired-fd N]

It holds the environment's lock for its life, owns the listening socket, starts and supervises the routers and the
workers, and does what the control socket asks. It starts with the recorded state that it reads from `--desired-fd`, or
with what it followed last when that is newer or the only one. `--ready-fd` is told once, in one line of JSON, that it
serves, that another one does (`held`), or why it cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from greentic.envpacks.deployer import DesiredState, Progress, silent
from greentic.envpacks.variables import passed
from greentic.providers.local import address, certificates, desired, keys, listening, lock, survivors, wire
from greentic.providers.local.bound_state import BoundState
from greentic.providers.local.control import ControlServer, Handler
from greentic.providers.local.instance import LEASE_SECONDS
from greentic.providers.local.journal import Journal
from greentic.providers.local.layout import Layout, remove, write_private
from greentic.providers.local.plane import DataPlane
from greentic.providers.local.routing import STOP_SECONDS, Routers
from greentic.providers.local.workers import Workers
from greentic.spec.errors import GreenticError, InvalidArgument, ProviderError, TimedOut
from greentic.worker.logfile import LogFile
from greentic.worker.state import StateDoor

Told = Callable[[dict[str, Any]], None]
EX_TEMPFAIL = 75


async def run(
    layout: Layout,
    environment_id: str,
    given: DesiredState | None,
    *,
    ready: Told,
    progress: Progress = silent,
    variables: Mapping[str, str] | None = None,
    lease_seconds: float = LEASE_SECONDS,
    grace_seconds: float = STOP_SECONDS,
) -> None:
    """Be the runtime of the environment until it is stopped or gets SIGTERM or SIGINT.

    A router that does not hear of it for `lease_seconds` stops claiming to be ready. In the end what is in flight has
    `grace_seconds` to finish. The caller holds `layout.lock`. `ready` is told when it serves. Raises GreenticError when
    it cannot start.
    """
    variables = os.environ if variables is None else variables
    journal = Journal(LogFile(layout.runtime_log))
    await survivors.end(layout)
    state = _newest(given, desired.load(layout.desired))
    if state is None:
        raise ProviderError(
            f"nothing is recorded for the environment '{environment_id}' in {layout.folder}",
            next_step=f"gtc op env create {environment_id}",
        )
    keys.ensure(layout.keys)
    host = state.environment.host_config
    if host.router is not None and host.router.tls is not None:
        certificates.load(host.router.tls)  # what cannot be served is said now, not to every client
    asked = host.listen_address
    listener = listening.listen(asked, environment_id, layout.listening)
    mark = {survivors.ROUTER_MARK: str(layout.run)}
    log = LogFile(layout.router_log)
    routers = Routers(listener, passed(variables) | mark, layout.run, log, journal.event, lease_seconds=lease_seconds)
    workers = Workers(layout, variables, lambda worker: plane.worker_changed(worker))
    plane = DataPlane(layout, state, workers, routers, asked, journal)
    desired.save(layout.desired, state)
    kept = BoundState(lambda: plane.desired.environment, layout.folder)
    workers.door = StateDoor(kept, told=partial(_state_told, journal))
    try:
        await workers.door.open()
        await _serve(layout, plane, journal, variables, ready, progress, grace_seconds)
    finally:
        await workers.door.close()
        await kept.close()
        routers.listener.close()
        journal.event("stopped")


async def _serve(
    layout: Layout,
    plane: DataPlane,
    journal: Journal,
    variables: Mapping[str, str],
    ready: Told,
    progress: Progress,
    grace_seconds: float,
) -> None:
    stopped = asyncio.Event()
    ended = asyncio.Event()
    hearers = [progress]

    def tell(text: str) -> None:
        for hearer in tuple(hearers):
            hearer(text)

    place = address.choose(layout, variables)
    control = ControlServer(place, _handlers(plane, stopped, ended, hearers), journal)
    started = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    information = {"pid": os.getpid(), "started_at": started}
    with _signals(stopped):
        await control.start()
        write_private(layout.information, json.dumps(information).encode())
        journal.event("started", pid=os.getpid(), generation=plane.desired.generation)
        opening = asyncio.create_task(_open(plane, journal))
        try:
            url = (await plane.observe()).url
            ready({"ready": True, "pid": os.getpid(), "url": url})
            progress(f"serving on {url}")
            await stopped.wait()
            await plane.stop(tell, grace_seconds)
            await survivors.end(layout)  # what a worker had started in a session of its own
            remove(layout.desired)
            remove(layout.information)
            ended.set()
            await asyncio.sleep(0)  # let the answer to `stop` be written
        finally:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await asyncio.shield(plane.stop(silent, grace_seconds))
            await control.stop()
            address.release(layout, place)


def _state_told(journal: Journal, problem: str | None) -> None:
    if problem is None:
        journal.event("state-answers")
    else:
        journal.event("state-failed", reason=problem)


async def _open(plane: DataPlane, journal: Journal) -> None:
    try:
        await plane.open()
    except GreenticError as error:
        journal.event("open-failed", reason=error.message)


def _handlers(
    plane: DataPlane, stopped: asyncio.Event, ended: asyncio.Event, hearers: list[Progress]
) -> dict[str, Handler]:
    """The methods of the control socket. `hearers` are told how the end goes on."""

    def state(params: Mapping[str, Any]) -> DesiredState:
        return wire.desired_from(params.get("desired"))

    async def warm(params: Mapping[str, Any], progress: Progress) -> Any:
        await plane.warm(state(params), str(params.get("revision_id")), progress)

    async def drain(params: Mapping[str, Any], progress: Progress) -> Any:
        report = await plane.drain(state(params), str(params.get("revision_id")), progress)
        plane.doings.drained(report.finished, report.cut)
        return wire.fields(report)

    async def archive(params: Mapping[str, Any], _: Progress) -> Any:
        await plane.archive(state(params), str(params.get("revision_id")))

    async def apply_traffic_split(params: Mapping[str, Any], progress: Progress) -> Any:
        began = time.monotonic()
        deployment_id = str(params.get("deployment_id"))
        try:
            receipt = await plane.apply_traffic_split(state(params), deployment_id, progress, began)
        except TimedOut:
            plane.doings.incomplete += 1
            raise
        plane.doings.received(receipt)
        return wire.fields(receipt)

    async def reconcile(params: Mapping[str, Any], progress: Progress) -> Any:
        return wire.observation_document(await plane.reconcile(state(params), progress))

    async def observe(_: Mapping[str, Any], __: Progress) -> Any:
        return wire.observation_document(await plane.observe())

    async def plan(params: Mapping[str, Any], _: Progress) -> Any:
        return wire.fields(plane.plan(state(params)))

    async def explain(params: Mapping[str, Any], _: Progress) -> Any:
        return await plane.explain(str(params.get("request_id")))

    async def metrics(_: Mapping[str, Any], __: Progress) -> Any:
        body, _type = await plane.endpoint.text()
        return body.decode()

    async def rotate_keys(_: Mapping[str, Any], progress: Progress) -> Any:
        return wire.fields(await plane.rotate_keys(progress))

    async def restart_routers(params: Mapping[str, Any], progress: Progress) -> Any:
        seconds = params.get("grace_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 86_400:
            raise InvalidArgument("the grace is a number of seconds from 0 to 86400")
        return [wire.fields(one) for one in await plane.restart_routers(state(params), seconds, progress)]

    async def stop(_: Mapping[str, Any], progress: Progress) -> Any:
        hearers.append(progress)
        stopped.set()
        try:
            await ended.wait()
        finally:
            hearers.remove(progress)
        return True

    handlers = (
        warm,
        drain,
        archive,
        apply_traffic_split,
        reconcile,
        observe,
        plan,
        explain,
        metrics,
        restart_routers,
        rotate_keys,
        stop,
    )
    return {handler.__name__: handler for handler in handlers}


@contextlib.contextmanager
def _signals(stopped: asyncio.Event) -> Any:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _newest(*states: DesiredState | None) -> DesiredState | None:
    """The state with the highest generation, the first one of equals."""
    return max((state for state in states if state is not None), key=lambda state: state.generation, default=None)


def main(arguments: list[str]) -> int:
    """Run until stopped. Exit status 0 after a stop, 1 when it cannot start, 75 (EX_TEMPFAIL) when another one runs."""
    parser = argparse.ArgumentParser(prog="python -m greentic.providers.local.runtime")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--environment-id", required=True)
    parser.add_argument("--detach", action="store_true", help="go on in the background, in a session of its own")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--desired-fd", type=int)
    parser.add_argument("--lease-seconds", type=float, default=LEASE_SECONDS, help="how long routers trust in silence")
    parser.add_argument("--grace-seconds", type=float, default=STOP_SECONDS, help="for what is in flight at the end")
    options = parser.parse_args(arguments)
    if options.detach and os.fork():
        os._exit(0)
    if options.detach:
        os.setsid()
        os.chdir("/")
        _let_go({0, 1, 2, options.ready_fd, options.desired_fd})
    told = _teller(options.ready_fd)
    layout = Layout(options.folder.absolute())
    layout.prepare()
    try:
        with lock.hold(layout.lock):
            # Ended without giving the lock back first: whoever finds it free finds no process of ours either.
            os._exit(_run(layout, options, told))
    except lock.Held:
        told({"held": True})
        return EX_TEMPFAIL


def _let_go(kept: set[int | None]) -> None:
    """Close what the caller had open: a pipe that the background holds would never end for whoever reads it."""
    for entry in list(Path("/dev/fd").iterdir()):
        if int(entry.name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(entry.name))


def _run(layout: Layout, options: argparse.Namespace, told: Told) -> int:
    import uvloop

    try:
        given = _given(options.desired_fd)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(
                run(
                    layout,
                    options.environment_id,
                    given,
                    ready=told,
                    lease_seconds=options.lease_seconds,
                    grace_seconds=options.grace_seconds,
                )
            )
    except GreenticError as error:
        told({"error": error.document()})
        sys.stderr.write(f"{error.message}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _given(descriptor: int | None) -> DesiredState | None:
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return wire.desired_from(json.loads(file.read()))


def _teller(descriptor: int | None) -> Told:
    """Tells the one who waits at the other end of `descriptor`, once."""
    waiting = [descriptor] if descriptor is not None else []

    def tell(document: dict[str, Any]) -> None:
        while waiting:
            with contextlib.suppress(OSError), os.fdopen(waiting.pop(), "wb") as file:
                file.write(wire.encode(document))

    return tell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
