"""The access log: one JSON object per line and request, in a file that several routers share.

Lines are made when a request is over and collected; a thread writes what was collected since the last tick, so that a
slow disk delays no request. What does not fit while the disk is slow is dropped and counted. Each batch is one `write`
to a file opened for appending, so that lines of several routers never mix; who finds the file full renames it under a
lock, and the others notice that theirs is not the named one any more.
"""

from __future__ import annotations

import fcntl
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Final

from greentic.router.ended import Ended

PENDING_BYTES: Final = 8 * 1024 * 1024
"""Lines not yet written; beyond it they are dropped."""
FILE_BYTES: Final = 64 * 1024 * 1024
"""A file that has reached this size becomes `<name>.1`; one old file is kept."""


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
        self._writing: Future[bool] | None = None
        self._written_lines = 0
        self._second = -1
        self._date = ""

    def write(self, ended: Ended) -> None:
        """Take the line of a request that is over."""
        if self._size > PENDING_BYTES:
            self.dropped += 1
            return
        line = self._line(ended)
        self._lines.append(line)
        self._size += len(line)

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
        if self._writing.result():
            self.written += self._written_lines
        else:
            self.dropped += self._written_lines
        self._writing = None
        return True

    # In the thread

    def _append(self, batch: list[str]) -> bool:
        """Whether the lines are in the file."""
        try:
            data = memoryview("".join(batch).encode("ascii"))
            descriptor = self._open()
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            return False
        return True

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
        named = os.stat(self.path)  # noqa: PTH116
        if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
            os.replace(self.path, f"{self.path}.1")  # noqa: PTH105

    # The line

    def _line(self, ended: Ended) -> str:
        """No query, no cookie and no field of the client but its request id: any of them may hold a secret."""
        row, decision = ended.row, ended.decision
        second = int(ended.ended_at)
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        served = 'null,"revision":null,"name":null,"reason":null,"generation":null'
        if row is not None:
            served = f'{quoted(row.deployment_id)},"bundle":{quoted(row.bundle_id)},'
            if decision is not None:
                revision = decision.revision
                name = row.revisions[revision.index].name
                served += (
                    f'"revision":{quoted(revision.revision_id)},"name":{quoted(name)},'
                    f'"reason":{quoted(decision.reason)},"generation":{row.generation}'
                )
            else:
                served += f'"revision":null,"name":null,"reason":null,"generation":{row.generation}'
        return (
            f'{{"time":"{self._date}.{int((ended.ended_at - second) * 1000):03d}Z",'
            f'"request_id":{quoted(ended.request_id.decode())},'
            f'"trace_id":{quoted(ended.trace_id) if ended.trace_id else "null"},'
            f'"router_pid":{self._process},"peer":{quoted(ended.peer.decode())},'
            f'"method":{_text(ended.method)},"host":{_text(ended.host)},"path":{_text(ended.path)},'
            f'"status":{ended.status},"error":{quoted(ended.error) if ended.error else "null"},'
            f'"received_bytes":{ended.received_bytes},"sent_bytes":{ended.sent_bytes},'
            f'"milliseconds":{ended.seconds * 1000:.3f},'
            f'"upstream_milliseconds":{f"{ended.upstream_seconds * 1000:.3f}" if ended.upstream_seconds else "null"},'
            f'"deployment":{served}}}\n'
        )


def _text(value: bytes) -> str:
    return quoted(value.decode("latin-1")) if value else "null"
