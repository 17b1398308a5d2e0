"""Databases for tests: a SQLite file, and a real PostgreSQL server in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import pytest


def programs() -> Path | None:
    """Where `initdb` and `postgres` are; None when there are none."""
    found = shutil.which("postgres")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class Server:
    """A PostgreSQL server of our own, on a free port of 127.0.0.1, run by a user that is not root."""

    def __init__(self, place: Path, programs: Path) -> None:
        self.place = place
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(place, self._user)
        self._run("initdb", "-D", str(place / "data"), "-U", "greentic", "-A", "trust", "--no-locale", "-E", "UTF8")

    def start(self) -> None:
        """Run it until `stop` or `kill`."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 100,
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",
        }
        given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [*self._as(), str(self._programs / "postgres"), "-D", str(self.place / "data"), *given]
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, (self.place / "log").read_text()[-5_000:]
            if self._process is None or self._process.poll() is not None:  # it waits for what a crash left to end
                with (self.place / "log").open("ab") as log:
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.place)
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: fast shutdown, or with SIGQUIT at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def crash(self) -> None:
        """Kill every process of it, as a power failure would."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._process.kill()
        self._process.wait(30)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._process = None
        (self.place / "data" / "postmaster.pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """Stop it and remove what it kept."""
        self.stop()
        shutil.rmtree(self.place)

    def fresh(self) -> str:
        """The URL of a new database."""
        import psycopg

        name = f"t{uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://greentic@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _as(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        found = pwd.getpwnam(self._user)
        return ["setpriv", f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups"]

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [*self._as(), str(self._programs / program), *words], check=True, capture_output=True, cwd=self.place
        )


def server() -> Server:
    """A server that runs; skipped loudly without PostgreSQL, failed in CI."""
    if programs() is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: .ci/run installs it, and nothing about it may be skipped here")
        pytest.skip("PostgreSQL is not installed: the store in a database was tested on SQLite only")
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)  # what is tested is not the disk
    return start(memory if usable else None)


def start(folder: Path | None) -> Server:
    """A server that runs in a new folder below `folder`; FileNotFoundError without PostgreSQL."""
    found = programs()
    if found is None:
        raise FileNotFoundError("PostgreSQL is not installed")
    place = Path(mkdtemp(prefix="greentic-postgres-", dir=folder))
    place.chmod(0o755)
    running = Server(place, found)
    running.start()
    return running


def spoil(place: str, statement: str, *values: object) -> None:
    """Carry out a statement behind the store's back."""
    if place.endswith(".db"):
        with closing(sqlite3.connect(place)) as connection, connection:
            connection.execute(statement, values)
        return
    import psycopg

    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute(statement.replace("?", "%s").replace("%'", "%%'") if values else statement, values or None)
