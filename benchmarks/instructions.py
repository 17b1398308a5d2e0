"""Instructions in user space that a request costs the router: `python -m benchmarks.instructions [SITUATION...]`.

Counted by `valgrind --tool=callgrind`, so that no other load blurs them and a change of a percent shows. After
WARM_UP requests over 16 connections so many more are counted. What the kernel does is not in it, which is about half of
what a request costs. Needs valgrind.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.peers import Router, table, upstream_files
from benchmarks.router import BODIES, FIELDS

CONNECTIONS: Final = 16
WARM_UP: Final = 1_000
SESSIONS: Final = 1_000

_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)")
_COOKIE = re.compile(rb"\r\nSet-Cookie: ([^;]+)")
Requests = Callable[[int, bytes], bytes]
"""The request of that number; the bytes are the revision cookie that the connection got first."""


def _request(number: int, cookie: bytes) -> bytes:  # noqa: ARG001
    return _written({})


def _written(fields: dict[str, str], target: str = "/1k") -> bytes:
    lines = (f"{name}: {value}" for name, value in {**FIELDS, **fields}.items())
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: 127.0.0.1", *lines, "", "")).encode()


def _varied(number: int, cookie: bytes) -> bytes:  # noqa: ARG001
    return _written({"Referer": f"https://shop.example.org/basket/{number}"}, f"/1k?number={number}")


def _session(number: int, cookie: bytes) -> bytes:  # noqa: ARG001
    return _written({"X-Greentic-Session": f"session-{number % SESSIONS}"})


def _held(number: int, cookie: bytes) -> bytes:  # noqa: ARG001
    """One session for each connection: pinned, and no head varies on it."""
    return _written({"X-Greentic-Session": f"session-{number % CONNECTIONS}"})


def _returning(number: int, cookie: bytes) -> bytes:
    return _written({"Cookie": FIELDS["Cookie"] + "; " + cookie.decode()}, f"/1k?number={number}")


SITUATIONS: Final[dict[str, tuple[Requests, bool]]] = {
    "equal": (_request, False),
    "varied": (_varied, False),
    "equal, log": (_request, True),
    "varied, log": (_varied, True),
    "sessions": (_session, False),
    "session held": (_held, False),
    "returning": (_returning, False),
}
"""How requests are made, and whether there is an access log."""


class _Client:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self.cookie = b""

    def ask(self, request: bytes) -> None:
        self._socket.sendall(request)

    def answer(self) -> None:
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._received()
        if not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {data[:200]!r}")
        missing = int(_LENGTH.findall(data)[0]) - (len(data) - end - 4)
        while missing > 0:
            missing -= len(self._received())
        found = _COOKIE.search(data)
        if found is not None and not self.cookie:
            self.cookie = found[1]

    def _received(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise SystemExit("the router closed a connection")
        return data

    def close(self) -> None:
        self._socket.close()


def count(upstream: int, folder: Path, situation: str, requests: int, keep: Path | None = None) -> int:
    """Instructions per request of `requests` requests; callgrind's own file goes to `keep`."""
    made, logged = SITUATIONS[situation]
    out = keep or folder / "callgrind.out"
    options = {"access_log": str(folder / "access.jsonl")} if logged else {}
    prefix = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    router = Router(table(upstream, 1, **options), prefix=prefix)
    with contextlib.ExitStack() as stack:
        stack.callback(router.close)
        clients = [_Client(router.port) for _ in range(CONNECTIONS)]
        for client in clients:
            stack.callback(client.close)
        numbers = itertools.count()
        _load(clients, made, numbers, WARM_UP)
        control = ["callgrind_control", "-i"]
        subprocess.run([*control, "on", str(router.pid)], check=True, stdout=subprocess.DEVNULL)
        asked = _load(clients, made, numbers, requests)
        subprocess.run([*control, "off", str(router.pid)], check=True, stdout=subprocess.DEVNULL)
    totals = re.findall(r"^(?:totals|summary): ([0-9]+)", out.read_text(), re.MULTILINE)
    return round(int(totals[-1]) / asked)


def _load(clients: list[_Client], made: Requests, numbers: Iterator[int], requests: int) -> int:
    """Ask on all connections at once, again and again; how many were asked."""
    rounds = -(-requests // len(clients))
    for _ in range(rounds):
        for client in clients:
            client.ask(made(next(numbers), client.cookie))
        for client in clients:
            client.answer()
    return rounds * len(clients)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("situations", nargs="*", help=f"of {', '.join(SITUATIONS)} [all]")
    parser.add_argument("--requests", type=int, default=2_000, help="[2000]")
    parser.add_argument("--keep", type=Path, help="a file for callgrind's output of the last situation")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greentic-instructions-")))
        upstream = stack.enter_context(upstream_files(folder, BODIES))
        for situation in options.situations or SITUATIONS:
            print(f"{situation:14} {count(upstream, folder, situation, options.requests, options.keep):9,}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
