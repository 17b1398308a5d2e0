"""The small parts of a worker: its log, its port, its delays, its guard, its server."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from greentic.worker import ports
from greentic.worker.backoff import delay
from greentic.worker.health import probe
from greentic.worker.logfile import TAIL_LINES, LogFile
from greentic.worker.process import GUARD, describe


class TestLogFile:
    def test_is_private_and_appended_to(self, tmp_path: Path) -> None:
        path = tmp_path / "logs" / "a.log"
        for text in (b"one\n", b"two\n"):
            log = LogFile(path)
            log.write(text)
            log.close()
        assert path.read_bytes() == b"one\ntwo\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_is_rotated_once_and_keeps_one_old_file(self, tmp_path: Path) -> None:
        log = LogFile(tmp_path / "a.log", max_bytes=100)
        for number in range(50):
            log.write(b"line %02d 90123456789\n" % number)
        log.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1"]
        assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
        assert (tmp_path / "a.log.1").read_bytes() + (tmp_path / "a.log").read_bytes() == b"".join(
            b"line %02d 90123456789\n" % number for number in range(40, 50)
        ), "the newest lines, none lost in between"

    def test_remembers_the_last_lines(self, tmp_path: Path) -> None:
        log = LogFile(tmp_path / "a.log")
        log.write(b"".join(b"%d\n" % number for number in range(100)) + b"unfin")
        log.write(b"ished \xff")
        assert log.tail() == [*(str(number) for number in range(81, 100)), "unfinished \ufffd"]
        assert len(log.tail()) == TAIL_LINES
        log.forget()
        assert log.tail() == []
        log.close()

    def test_a_long_line_is_bounded_in_memory(self, tmp_path: Path) -> None:
        log = LogFile(tmp_path / "a.log")
        for _ in range(100):
            log.write(b"x" * 10_000)
        assert len(log.tail()[0]) <= 2_000
        assert log.path.stat().st_size == 1_000_000
        log.close()

    def test_a_disk_that_refuses_loses_lines_not_the_worker(self, tmp_path: Path) -> None:
        (tmp_path / "a.log").mkdir()
        log = LogFile(tmp_path / "a.log")
        log.write(b"one\n")
        assert log.trouble is not None
        assert log.tail() == ["one"]

    def test_follows_no_link(self, tmp_path: Path) -> None:
        (tmp_path / "a.log").symlink_to(tmp_path / "elsewhere")
        log = LogFile(tmp_path / "a.log")
        log.write(b"one\n")
        assert not (tmp_path / "elsewhere").exists()


class TestPorts:
    def test_prefers_the_one_it_had(self) -> None:
        port = ports.choose(())
        assert ports.choose((), preferred=port) == port
        assert ports.choose({port}, preferred=port) != port

    def test_avoids_one_that_is_bound(self) -> None:
        port = ports.choose(())
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            assert ports.choose((), preferred=port) != port

    def test_stays_below_the_ports_of_outgoing_connections(self) -> None:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert all(15_000 <= ports.choose(()) < max(first, 16_000) for _ in range(50))


@pytest.mark.parametrize(
    ("attempt", "chance", "seconds"),
    [(0, 0.0, 0.05), (0, 0.999999, 0.1), (1, 0.999999, 0.2), (3, 0.0, 0.4), (9, 0.999999, 30.0), (10_000, 0.0, 15.0)],
)
def test_delays_double_up_to_half_a_minute(attempt: int, chance: float, seconds: float) -> None:
    assert delay(attempt, chance) == pytest.approx(seconds, rel=1e-3)


def test_an_end_in_words() -> None:
    assert describe(3) == "exited with status 3"
    assert describe(-9) == "was ended by SIGKILL"
    assert describe(-99) == "was ended by signal 99"


class TestProbe:
    @pytest.mark.parametrize(
        ("answer", "healthy", "detail"),
        [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True, "answered 200"),
            (b"HTTP/1.0 204 \r\n\r\n", True, "answered 204"),
            (b"HTTP/1.1 204\r\n\r\n", True, "answered 204"),
            (b"HTTP/1.1 301 Moved\r\n\r\n", False, "answered 301"),
            (b"HTTP/1.1 503 No\r\n\r\n", False, "answered 503"),
            (b"SSH-2.0-x\r\n", False, "not HTTP"),
            (b"x" * 200_000, False, "not HTTP"),
            (b"", False, "closed the connection"),
        ],
    )
    def test_only_2xx_is_healthy(self, answer: bytes, healthy: bool, detail: str) -> None:
        async def scenario() -> None:
            asked = []

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer)
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            found = await probe("127.0.0.1", port, "/up", 5)
            server.close()
            assert found.healthy is healthy
            assert detail in found.detail
            assert asked[0].startswith(b"GET /up HTTP/1.1\r\nHost: 127.0.0.1:")

        asyncio.run(scenario())

    def test_one_that_says_nothing(self) -> None:
        async def scenario() -> None:
            ended = asyncio.Event()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await ended.wait()
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            found = await probe("127.0.0.1", server.sockets[0].getsockname()[1], "/up", 0.05)
            ended.set()
            server.close()
            assert not found.healthy
            assert "no answer from /up within 0.05 s" in found.detail

        asyncio.run(scenario())

    def test_one_that_does_not_listen(self) -> None:
        found = asyncio.run(probe("127.0.0.1", ports.choose(()), "/up", 1))
        assert (found.healthy, found.detail) == (False, "it does not listen on $PORT")


class TestGuard:
    def run(self, *command: str, parent: int | None = None) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid() if parent is None else parent), *command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)

    def test_becomes_the_program(self) -> None:
        assert self.run("sh", "-c", "echo out; exit 5").returncode == 5

    def test_tells_what_is_missing(self, tmp_path: Path) -> None:
        absent = self.run("no-such-program-anywhere")
        assert (absent.returncode, absent.stderr) == (
            127,
            "greentic: no-such-program-anywhere cannot be run: there is no such program\n",
        )
        plain = tmp_path / "plain"
        plain.write_text("text")
        assert self.run(str(plain)).returncode == 126

    def test_does_not_run_when_its_parent_is_gone(self) -> None:
        ended = self.run("sh", "-c", "echo ran", parent=1)
        assert (ended.returncode, ended.stdout) == (1, "")

    def test_the_program_dies_with_its_parent(self) -> None:
        script = (
            "import os, subprocess, sys; "
            f"p = subprocess.Popen([sys.executable, '-I', '-S', {str(GUARD)!r}, str(os.getpid()), 'sleep', '60']); "
            "print(p.pid, flush=True); sys.stdin.read()"
        )
        parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with parent:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            _wait_for(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0])
            parent.kill()
        _wait_for(
            lambda: not Path(f"/proc/{child}").exists() or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text()
        )


def _wait_for(condition: object, seconds: float = 10.0) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.002)


class TestServer:
    """`python -m greentic.worker` by itself; what it says of broken applications is in the integration tests."""

    def test_the_server_is_not_shadowed_by_what_the_pack_brings(self, tmp_path: Path) -> None:
        for name in ("uvicorn", "httptools", "uvloop", "click"):
            (tmp_path / f"{name}.py").write_text("raise RuntimeError('the pack took over')\n")
        ended = self.run(tmp_path, "absent:app")
        assert ended.returncode == 78
        assert "the pack has no module 'absent'" in ended.stderr

    def test_a_nested_attribute_and_a_wrong_name(self, tmp_path: Path) -> None:
        (tmp_path / "main.py").write_text("class Holder:\n    app = 3\n")
        assert "is of the type int" in self.run(tmp_path, "main:Holder.app").stderr
        assert "not of the form module:attribute" in self.run(tmp_path, "main").stderr

    def run(self, folder: Path, app: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-P", "-m", "greentic.worker", "--app", app, "--port", "1", "--path", str(folder)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, cwd=folder)
