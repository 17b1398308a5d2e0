"""The small parts of the local provider, without a runtime."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from greentic.envpacks.deployer import DesiredState, Observation, RevisionObservation
from greentic.envpacks.registry import Registry
from greentic.providers.local import address, desired, keys, listening, lock, survivors, wire
from greentic.providers.local.instance import Instance, Surroundings, Tables
from greentic.providers.local.layout import Layout, write_private
from greentic.router.balance import Places
from greentic.router.control import Acknowledgement
from greentic.router.table import RoutingTable
from greentic.spec import errors
from greentic.spec.capabilities import Slot
from greentic.spec.environment import fresh
from greentic.worker.logfile import LogFile


class TestKeys:
    def test_made_once_and_private(self, tmp_path: Path) -> None:
        path = tmp_path / "router-keys.json"
        ring = keys.ensure(path)
        assert keys.ensure(path) == ring
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(base64.b64decode(ring["ring"][0]["secret"])) == 32
        assert ring["active"] == ring["ring"][0]["kid"]
        assert [entry.name for entry in tmp_path.iterdir()] == ["router-keys.json"]

    def test_two_that_make_it_at_once_have_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "router-keys.json"
        found: list[str] = []
        start = threading.Barrier(8)

        def make() -> None:
            start.wait()
            found.append(keys.ensure(path)["active"])

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1

    def test_one_that_others_may_read_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "router-keys.json"
        keys.ensure(path)
        path.chmod(0o640)
        with pytest.raises(errors.Denied, match="0640"):
            keys.ensure(path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda ring: ring.update(active="another"),
            lambda ring: ring["ring"][0].update(secret="c2hvcnQ="),
            lambda ring: ring["ring"][0].update(secret="not base64"),
            lambda ring: ring["ring"][0].pop("secret"),
            lambda ring: ring["ring"].append(dict(ring["ring"][0])),
            lambda ring: ring.pop("ring"),
            lambda ring: ring.update(ring=3),
            lambda ring: ring["ring"][0].update(kid=""),
        ],
    )
    def test_a_broken_one_is_refused_without_showing_it(self, tmp_path: Path, change: Any) -> None:
        path = tmp_path / "router-keys.json"
        ring = keys.ensure(path)
        secret = ring["ring"][0]["secret"]
        change(ring)
        write_private(path, json.dumps(ring).encode())
        with pytest.raises(errors.CorruptDocument) as caught:
            keys.ensure(path)
        assert secret not in str(caught.value.document())
        assert str(path) in caught.value.message

    @pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
    def test_what_is_no_ring(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "router-keys.json"
        write_private(path, text.encode())
        with pytest.raises(errors.CorruptDocument):
            keys.ensure(path)

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        keys.ensure(tmp_path / "elsewhere")
        (tmp_path / "router-keys.json").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(errors.InputOutput):
            keys.ensure(tmp_path / "router-keys.json")

    def test_the_router_takes_it(self, tmp_path: Path) -> None:
        ring = keys.ensure(tmp_path / "router-keys.json")
        RoutingTable.parse({"version": 1, "env_id": "local", "keys": ring, "deployments": []})


class TestAddress:
    def test_short_paths_have_the_socket_in_the_folder(self) -> None:
        layout = Layout(Path("/tmp/x"))
        assert address.find(layout) == layout.control_socket

    def test_long_paths_have_it_in_a_private_folder(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / ("d" * 90))
        layout.prepare()
        path = address.choose(layout, {"XDG_RUNTIME_DIR": str(tmp_path)})
        assert len(os.fsencode(path)) <= address.LONGEST_BYTES
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert address.find(layout) == path
        assert address.choose(layout, {"XDG_RUNTIME_DIR": str(tmp_path)}) == path
        address.release(layout, path)
        assert not path.parent.exists()
        assert address.find(layout) == layout.control_socket

    def test_two_environments_have_two(self, tmp_path: Path) -> None:
        layouts = [Layout(tmp_path / ("d" * 90) / name) for name in ("a", "b")]
        for layout in layouts:
            layout.prepare()
        first, second = (address.choose(layout, {"XDG_RUNTIME_DIR": str(tmp_path)}) for layout in layouts)
        assert first != second
        first.parent.rmdir()
        second.parent.rmdir()

    def test_a_folder_of_somebody_else_is_refused(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / ("d" * 90))
        layout.prepare()
        path = address.choose(layout, {"XDG_RUNTIME_DIR": str(tmp_path)})
        path.parent.chmod(0o755)
        with pytest.raises(errors.Denied):
            address.choose(layout, {"XDG_RUNTIME_DIR": str(tmp_path)})
        path.parent.rmdir()
        path.parent.symlink_to(tmp_path)
        with pytest.raises((errors.Denied, FileExistsError)):
            address.choose(layout, {"XDG_RUNTIME_DIR": str(tmp_path)})
        path.parent.unlink()


class TestLock:
    def test_one_at_a_time(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        assert not lock.held(path)
        with lock.hold(path):
            assert lock.held(path)
            with pytest.raises(lock.Held), lock.hold(path):
                raise AssertionError
        assert not lock.held(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


class TestListening:
    def test_a_port_of_the_systems_choice_is_kept(self, tmp_path: Path) -> None:
        kept = tmp_path / "listening.json"
        with listening.listen("127.0.0.1:0", "local", kept) as first:
            chosen = listening.address_of(first)
            with listening.listen("127.0.0.1:0", "local", kept) as second:
                assert listening.address_of(second) != chosen, "taken, so another one"
                chosen = listening.address_of(second)
        with listening.listen("127.0.0.1:0", "local", kept) as third:
            assert listening.address_of(third) == chosen

    def test_what_is_kept_for_another_address_is_not_used(self, tmp_path: Path) -> None:
        kept = tmp_path / "listening.json"
        kept.write_text('{"asked": "0.0.0.0:0", "port": 1}')
        with listening.listen("127.0.0.1:0", "local", kept) as listener:
            assert listener.getsockname()[1] > 1
        kept.write_text("nonsense")
        listening.listen("127.0.0.1:0", "local", kept).close()

    def test_a_taken_port_is_named(self, tmp_path: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(errors.ProviderError) as caught:
                listening.listen(taken, "prod", tmp_path / "kept")
        assert caught.value.message == f"the router cannot listen on {taken}: the address is in use by another process"
        assert "gtc op env update prod --listen-addr 127.0.0.1:" in str(caught.value.next_step)
        assert caught.value.details == {"listen_addr": taken, "errno": errno.errorcode[errno.EADDRINUSE]}

    def test_an_address_of_another_machine(self, tmp_path: Path) -> None:
        with pytest.raises(errors.ProviderError, match="no such address"):
            listening.listen("192.0.2.1:8080", "prod", tmp_path / "kept")

    def test_the_url_of_every_interface_is_that_of_this_machine(self, tmp_path: Path) -> None:
        with listening.listen("0.0.0.0:0", "local", tmp_path / "kept") as listener:
            assert listening.url_of(listener).startswith("http://127.0.0.1:")
            assert listening.address_of(listener).startswith("0.0.0.0:")


class TestWire:
    def test_every_error_comes_out_as_itself(self) -> None:
        family = [
            found
            for found in vars(errors).values()
            if isinstance(found, type) and issubclass(found, errors.GreenticError) and found is not errors.GreenticError
            if "kind" in vars(found)  # of several of one kind the most general is meant
        ]
        assert len(family) >= 15
        for kind in family:
            words: tuple[str, ...] = ("Rule", "why") if issubclass(kind, errors.SpecViolation) else ("why",)
            sent = kind(*words, details={"a": 1}, next_step="do it")
            found = wire.error_from(json.loads(json.dumps(sent.document())))
            assert type(found) is kind
            assert found.document() == sent.document()

    @pytest.mark.parametrize("document", [None, 3, {}, {"kind": "of a later version"}, {"kind": None, "message": 3}])
    def test_an_error_of_another_version_is_an_error_of_the_provider(self, document: Any) -> None:
        assert isinstance(wire.error_from(document), errors.ProviderError)

    def test_a_desired_state_there_and_back(self) -> None:
        state = DesiredState(fresh("local", "local"), 7)
        assert wire.desired_from(json.loads(wire.encode(wire.desired_document(state)))) == state

    @pytest.mark.parametrize("document", [None, [], {}, {"generation": True, "environment": {}}, {"generation": 1}])
    def test_what_is_no_desired_state(self, document: Any) -> None:
        with pytest.raises(errors.SpecViolation):
            wire.desired_from(document)

    def test_an_observation_there_and_back(self) -> None:
        seen = Observation(
            True, "http://x", 1, {"D": 2}, {"R": RevisionObservation("R", "healthy", p50_ms=1.5)}, {"a": 1}
        )
        assert wire.observation_from(json.loads(json.dumps(wire.observation_document(seen)))) == seen


class TestDesired:
    def test_kept_and_read_back(self, tmp_path: Path) -> None:
        state = DesiredState(fresh("local", "local"), 7)
        desired.save(tmp_path / "run" / "desired.json", state)
        assert desired.load(tmp_path / "run" / "desired.json") == state

    @pytest.mark.parametrize("text", ["", "{", '{"generation": 1, "environment": {}}', "[" * 100_000])
    def test_what_cannot_be_read_is_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "desired.json").write_text(text)
        assert desired.load(tmp_path / "desired.json") is None
        assert desired.load(tmp_path / "absent.json") is None


class TestSurvivors:
    def test_by_record(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path)
        code = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as head:
            assert head.stdout is not None
            head.stdout.readline()
            survivors.remember(layout, [head.pid])
            found = survivors.recorded(layout)
            assert head.pid in found
            assert len(found) == 2, "its child as well"
            entries = json.loads(layout.processes.read_bytes())
            write_private(layout.processes, json.dumps([{**entries[0], "started": "long ago"}]).encode())
            assert survivors.recorded(layout) == [], "another process with the same number"
            for process in found:
                os.kill(process, 9)
        assert survivors.recorded(layout) == []

    def test_by_environment(self, tmp_path: Path) -> None:
        layout = Layout(tmp_path / "one")
        variables = {"GREENTIC_CONFIG_FILE": str(layout.configuration("R1"))}
        code = "print(flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables
        ) as worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            assert survivors.marked(Layout(tmp_path / "on")) == []
            assert asyncio.run(survivors.end(layout)) == [worker.pid]
        assert worker.returncode == -9


class TestEntryPoints:
    @pytest.mark.parametrize(
        ("path", "slot"),
        [
            ("greentic.deployer.local-process", Slot.DEPLOYER),
            ("greentic.secrets.dev-store", Slot.SECRETS),
            ("greentic.telemetry.stdout", Slot.TELEMETRY),
            ("greentic.sessions.in-memory", Slot.SESSIONS),
            ("greentic.state.in-memory", Slot.STATE),
        ],
    )
    def test_each_is_found_by_the_registry(self, path: str, slot: Slot) -> None:
        pack = Registry.installed().resolve(f"{path}@0.1.0", slot)
        assert pack.summary
        assert (pack.deployer is not None) == (slot is Slot.DEPLOYER)

    def test_the_callers_side_stays_light(self) -> None:
        code = (
            "import sys, greentic.providers.local.deployer; "
            "print(*(m for m in sys.modules if m.split('.')[0] in ('uvloop', 'uvicorn', 'httptools') "
            "or m.startswith(('greentic.router', 'greentic.bundles', 'greentic.worker.supervision'))))"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.split() == []


def test_a_router_that_is_late_does_not_take_its_successors_back() -> None:
    older, newer = {"version": 6}, {"version": 7}
    tables = Tables()
    for table in (older, newer):
        tables.offer(table)
    tables.taken(newer)
    tables.taken(older)  # from one that was frozen meanwhile
    assert tables.good is newer, (
        "a process that begins with the older table would serve it behind a receipt for the newer"
    )


class _Obedient:
    """A router's control that takes every table but those that it refuses."""

    def __init__(self, *refused: int) -> None:
        self.refused = refused
        self.given: list[int] = []

    async def configure(self, table: dict[str, Any], timeout: float) -> Acknowledgement:
        version = table["version"]
        self.given.append(version)
        if version in self.refused:
            raise errors.SpecViolation("routing-table", "no")
        return Acknowledgement(version, {}, 0.0)


async def _begins(folder: Path, refused: tuple[int, ...]) -> list[int]:
    tables = Tables()
    tables.offer({"version": 6})
    tables.taken({"version": 6})
    tables.offer({"version": 7})
    places, control, changed = Places(), _Obedient(*refused), asyncio.Event()
    given = Surroundings({}, folder, LogFile(folder / "log"), places, lambda *_, **__: None, changed.set)
    instance = Instance("router-0", None, control, 0, given)  # type: ignore[arg-type]
    feeding = asyncio.create_task(instance._feed(tables, lambda: {"index": 0, "count": 1}))
    await changed.wait()
    feeding.cancel()
    places.close()
    return control.given


@pytest.mark.parametrize(("refused", "given"), [((), [7]), ((7,), [7, 6])])
def test_who_begins_begins_with_the_newest_table(tmp_path: Path, refused: tuple[int, ...], given: list[int]) -> None:
    """With an older one only when that one is refused: what it promised may have been prolonged since."""
    assert asyncio.run(_begins(tmp_path, refused)) == given
