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

from greentic.router.accepting import Acceptor
from greentic.router.balance import Balance
from greentic.router.control import STOP_IDLE_SECONDS
from greentic.router.control_server import ORPHAN_GRACE_SECONDS, ControlServer
from greentic.router.gateway import Gateway


async def serve(listening: socket.socket, control: socket.socket, balance: Balance | None = None) -> None:
    """Accept on `listening` and obey `control` until told to stop or left alone.

    Until there is a table, connections wait in the backlog: a successor must not refuse what its predecessor would have
    served. From the stop on none is taken; what is in flight, or comes on a connection that is there, is served.
    """
    loop = asyncio.get_running_loop()
    gateway = Gateway()
    acceptor = Acceptor(listening, gateway, balance)
    stopping: asyncio.Future[None] = loop.create_future()

    def stop(grace_seconds: float, idle_seconds: float | None) -> None:
        acceptor.stop()
        gateway.stop_within(grace_seconds, idle_seconds)
        if not stopping.done():
            stopping.set_result(None)

    def accept() -> None:
        if not stopping.done():
            acceptor.start()

    control.setblocking(False)
    transport, endpoint = await loop.create_unix_connection(lambda: ControlServer(gateway, stop, accept), sock=control)
    loop.add_signal_handler(signal.SIGTERM, stop, ORPHAN_GRACE_SECONDS, STOP_IDLE_SECONDS)
    # Ctrl-C at a terminal reaches the whole process group; the parent decides what becomes of it.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    endpoint.announce()
    # What is alive now stays alive: the collector need not look at it again.
    gc.freeze()
    # Connections let go of their cycles themselves; the collector is for what is forgotten.
    gc.set_threshold(20_000, 20, 50)
    try:
        await stopping
        await acceptor.opened()
        await endpoint.conclude(await gateway.stopped())
    finally:
        transport.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m greentic.router --listen-fd N --control-fd M [--balance-fd B --place P]`. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m greentic.router", description="The router of one environment.")
    parser.add_argument("--listen-fd", type=int, required=True, help="inherited listening TCP socket")
    parser.add_argument("--control-fd", type=int, required=True, help="inherited connected Unix stream socket")
    parser.add_argument("--balance-fd", type=int, help="inherited page of connection counts (greentic.router.balance)")
    parser.add_argument("--place", type=int, default=0, help="this process' place in that page")
    parser.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _raise_file_limit()
    listening = socket.socket(fileno=options.listen_fd)
    _notice_the_dead(listening)
    control = socket.socket(fileno=options.control_fd)
    balance = Balance(options.balance_fd, options.place) if options.balance_fd is not None else None
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(listening, control, balance))
    return 0


def _notice_the_dead(listening: socket.socket) -> None:
    """Have the system ask silent clients whether they are still there, and end the connections of those that do not
    say so: a stream or a tunnel may be silent for an hour. What is accepted has the options of what it came from.
    """
    options = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


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
