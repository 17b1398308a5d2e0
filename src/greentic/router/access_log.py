"""The access log: one JSON object per line and request, in a file that several routers share.

Lines are made when a request is over, of parts that most of them share, and collected; a thread writes what was
collected, so that a slow disk delays no request. What does not fit while the disk is slow is dropped and counted. Each
batch is one `write` to a file opened for appending, so that lines of several routers never mix; who finds the file full
renames it under a lock, and the others notice that theirs is not the named one any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

if TYPE_CHECKING:
    from greentic.router.ended import Ended
    from greentic.router.selection import Decision
    from greentic.router.table import DeploymentRow

K = TypeVar("K")
V = TypeVar("V")

PENDING_BYTES: Final = 8 * 1024 * 1024
"""Lines not yet written; beyond it they are dropped."""
FILE_BYTES: Final = 64 * 1024 * 1024
"""A file that has reached this size becomes `<name>.1`; one old file is kept."""
BATCH_BYTES: Final = 256 * 1024
"""Collected lines are handed over once they are so many, and at each tick: what is written soon is still in the cache.
"""
REMEMBERED: Final = 512
"""Parts of lines that were made before, of each kind."""
_LINE_END: Final = 0x0A
_MILLISECONDS: Final = 10_000
"""Durations of fewer microseconds have their text ready."""


class AccessLog:
    """Appends to the file at `path`, made with mode 0600."""

    def __init__(self, path: str, file_bytes: int = FILE_BYTES) -> None:
        self.path = path
        self.written = self.dropped = 0
        """Lines given to the file, and lines that were lost, to a disk that is slow, full or gone."""
        self._process = os.getpid()
        self._file_bytes = file_bytes
        self._lines: list[str] = []
        self._size = 0
        self._descriptor = -1
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="access-log")
        self._writing: Future[int] | None = None
        self._written_lines = 0
        self._torn = False
        """Whether the last write to the file ended within a line."""
        self._second = self._moment = -1
        self._date = self._time = ""
        self._asked: dict[tuple[bytes, bytes, bytes], str] = {}
        self._paths: dict[bytes, str] = {}
        self._served: dict[tuple[int, int, str], tuple[DeploymentRow, str]] = {}
        self._milliseconds = [f"{number / 1000:.3f}" for number in range(_MILLISECONDS)]

    def write(self, ended: tuple[object, ...]) -> None:
        """Take the line of a request that is over, as the fields of `Ended`."""
        if self._size > PENDING_BYTES:
            self.dropped += 1
            return
        line = self._line(ended)
        self._lines.append(line)
        self._size += len(line)
        if self._size > BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was collected to the writer, unless it is still busy with the last of it."""
        if self._settled() and self._lines:
            batch, self._lines, self._size = self._lines, [], 0
            self._written_lines = len(batch)
            self._writing = self._writer.submit(self._append, batch)

    def close(self) -> None:
        """Write what is left and let go of the file."""
        if self._writing is not None:
            self._writing.exception()
        self.flush()
        self._writer.shutdown()
        self._settled()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def document(self) -> dict[str, int]:
        """The counters as JSON values."""
        self._settled()
        return {"written": self.written, "dropped": self.dropped}

    def _settled(self) -> bool:
        if self._writing is None:
            return True
        if not self._writing.done():
            return False
        arrived = self._writing.result()
        self.written += arrived
        self.dropped += self._written_lines - arrived
        self._writing = None
        return True

    # In the thread

    def _append(self, batch: list[str]) -> int:
        """How many of the lines are in the file. One that a full disk has torn is ended before the next."""
        whole = "".join(batch).encode("ascii")
        at = 0
        try:
            descriptor = self._open()
            if self._torn:
                os.write(descriptor, b"\n")
                self._torn = False
            data = memoryview(whole)
            while at < len(whole):
                at += os.write(descriptor, data[at:])
        except OSError:
            self._torn = self._torn or (at > 0 and whole[at - 1] != _LINE_END)
            return whole.count(b"\n", 0, at)
        return len(batch)

    def _open(self) -> int:
        """The file that has the name now, with room in it."""
        if self._descriptor >= 0:
            ours = os.fstat(self._descriptor)
            try:
                named = os.stat(self.path)  # noqa: PTH116
            except FileNotFoundError:
                named = None
            if named is not None and (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                if named.st_size < self._file_bytes:
                    return self._descriptor
                self._rotate()
            os.close(self._descriptor)
            self._descriptor = -1
        Path(self.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o600)
        return self._descriptor

    def _rotate(self) -> None:
        """Rename the full file, unless another router has just done so: the lock is on the file itself."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        ours = os.fstat(self._descriptor)
        with contextlib.suppress(FileNotFoundError):  # renamed just now, and not made anew yet
            named = os.stat(self.path)  # noqa: PTH116
            if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                os.replace(self.path, f"{self.path}.1")  # noqa: PTH105

    # The line

    def _line(self, ended: tuple[object, ...]) -> str:
        """No query, no cookie and no field of the client but its request id: any of them may hold a secret."""
        # fmt: off
        (
            request_id, ended_at, _, seconds, upstream_seconds, status, error, peer, method, host, path, row, _, _,
            decision, received_bytes, sent_bytes, trace_id,
        ) = cast("Ended", ended)
        # fmt: on
        moment = int(ended_at * 1000)
        if moment != self._moment:
            self._moment = moment
            second = moment // 1000
            if second != self._second:
                self._second = second
                self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._time = f'{{"time":"{self._date}.{moment % 1000:03d}Z","request_id":"'
        asked = self._asked.get((peer, method, host))
        if asked is None:
            asked = self._asked_of(peer, method, host)
        where = self._paths.get(path)
        if where is None:
            where = self._path_of(path)
        if row is not None and decision is not None:
            known = self._served.get((id(row), decision.revision.index, decision.reason))
            served = known[1] if known is not None else self._served_of(row, decision)
        elif row is not None:
            served = (
                f'{quoted(row.deployment_id)},"bundle":{quoted(row.bundle_id)},'
                f'"revision":null,"name":null,"reason":null,"generation":{row.generation}}}\n'
            )
        else:
            served = 'null,"revision":null,"name":null,"reason":null,"generation":null}\n'
        took = int(seconds * 1_000_000 + 0.5)
        milliseconds = self._milliseconds[took] if 0 <= took < _MILLISECONDS else f"{seconds * 1000:.3f}"
        upstream = "null"
        if upstream_seconds:
            took = int(upstream_seconds * 1_000_000 + 0.5)
            upstream = self._milliseconds[took] if 0 <= took < _MILLISECONDS else f"{upstream_seconds * 1000:.3f}"
        # A request id is of letters, digits and `._-`, a trace id of hexadecimal digits: they need no quoting. `!s` is
        # the cheap way from a number to text.
        trace = f'"{trace_id}"' if trace_id else "null"
        failed = quoted(error) if error else "null"
        return (
            f'{self._time}{request_id.decode()}","trace_id":{trace}{asked}{where},"status":{status!s},"error":{failed}'
            f',"received_bytes":{received_bytes!s},"sent_bytes":{sent_bytes!s},"milliseconds":{milliseconds}'
            f',"upstream_milliseconds":{upstream},"deployment":{served}'
        )

    def _asked_of(self, peer: bytes, method: bytes, host: bytes) -> str:
        text = (
            f',"router_pid":{self._process},"peer":{quoted(peer.decode())},"method":{_text(method)}'
            f',"host":{_text(host)},"path":'
        )
        _remember(self._asked, (peer, method, host), text)
        return text

    def _path_of(self, path: bytes) -> str:
        text = _text(path)
        _remember(self._paths, path, text)
        return text

    def _served_of(self, row: DeploymentRow, decision: Decision) -> str:
        revision = decision.revision
        text = (
            f'{quoted(row.deployment_id)},"bundle":{quoted(row.bundle_id)},"revision":{quoted(revision.revision_id)}'
            f',"name":{quoted(row.revisions[revision.index].name)},"reason":{quoted(decision.reason)}'
            f',"generation":{row.generation}}}\n'
        )
        # With the row itself: as long as it is there, no other has its identity.
        _remember(self._served, (id(row), revision.index, decision.reason), (row, text))
        return text


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    if len(memory) >= REMEMBERED:
        memory.clear()
    memory[key] = value


def _text(value: bytes) -> str:
    return quoted(value.decode("latin-1")) if value else "null"
