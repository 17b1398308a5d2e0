"""The router process: an inherited listening socket, an inherited control socket, one event loop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
from collections.abc import Sequence

from greentic.router.control_server import ORPHAN_GRACE_SECONDS, ControlServer
from greentic.router.gateway import Gateway
from greentic.router.secure import accepted

BACKLOG = 4096


async def serve(listening: socket.socket, control: socket.socket) -> None:
    """Accept on `listening` and obey `control` until told to stop or left alone."""
    loop = asyncio.get_running_loop()
    gateway = Gateway()
    stopped: asyncio.Future[float] = loop.create_future()

    def stop(grace_seconds: float) -> None:
        if not stopped.done():
            stopped.set_result(grace_seconds)

    listening.setblocking(False)
    # Until there is a table, connections wait in the backlog: a successor must not refuse what its predecessor would
    # have served.
    server = await loop.create_server(lambda: accepted(gateway), sock=listening, backlog=BACKLOG, start_serving=False)
    accepting: list[asyncio.Task[None]] = []

    def accept() -> None:
        if not accepting and not stopped.done():
            accepting.append(loop.create_task(server.start_serving()))

    control.setblocking(False)
    transport, endpoint = await loop.create_unix_connection(lambda: ControlServer(gateway, stop, accept), sock=control)
    loop.add_signal_handler(signal.SIGTERM, stop, ORPHAN_GRACE_SECONDS)
    # Ctrl-C at a terminal reaches the whole process group; the parent decides what becomes of it.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    endpoint.announce()
    # What is alive now stays alive: the collector need not look at it again.
    gc.freeze()
    # Connections let go of their cycles themselves; the collector is for what is forgotten.
    gc.set_threshold(20_000, 20, 50)
    try:
        grace_seconds = await stopped
        server.close()
        await gateway.stop(grace_seconds)
    finally:
        transport.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m greentic.router --listen-fd N --control-fd M`. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m greentic.router", description="The router of one environment.")
    parser.add_argument("--listen-fd", type=int, required=True, help="inherited listening TCP socket")
    parser.add_argument("--control-fd", type=int, required=True, help="inherited connected Unix stream socket")
    parser.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _raise_file_limit()
    listening = socket.socket(fileno=options.listen_fd)
    control = socket.socket(fileno=options.control_fd)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(listening, control))
    return 0


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (CPython on Unix); asyncio's own loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def _raise_file_limit() -> None:
    """Each exchange takes two descriptors: use what the system grants this process."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
