"""Every crash point of a change that signs a revenue policy: all or nothing, retries converge, nothing overwritten."""

from __future__ import annotations

import errno
import os
import shutil
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.integration.policy_scenarios import ID, PLACE, POLICY_SCENARIOS, Signing, proven, shared
from tests.integration.store_disks import Counting, Failing, Killing, PowerLost, Unsynced, Volatile
from tests.integration.store_scenarios import answer, check, truth
from tests.integration.test_store_crashes import _in_a_child

from greentic.operations import heads
from greentic.spec.errors import StoreError
from greentic.store.conformance import WALK
from greentic.store.files import FilesStore
from greentic.trust import root as trust

POINTS = {"killed": 0, "failed call": 0, "power lost": 0}


@pytest.fixture(params=POLICY_SCENARIOS, ids=lambda scenario: scenario.name)
def scenario(request):
    return request.param


@pytest.fixture
def place():
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    with TemporaryDirectory(prefix="greentic-policy-", dir=memory if usable else None) as folder:
        yield Path(folder)


@pytest.fixture
def prepared(scenario, place):
    scenario.prepare(place / "prepared")
    numbers = count()

    def fresh():
        root = place / f"run-{next(numbers)}"
        shutil.copytree(place / "prepared", root)
        return root

    counting = Counting()
    answer(scenario.store(fresh(), counting), scenario.act)
    return truth(scenario, place / "peace"), fresh, counting.names


def holds(scenario, expected, prepared_files, root, acknowledged, where):
    """The promises of the store, and those of the policies: at once, and after the retry."""
    try:
        proven(scenario, root)
        check(scenario, expected, root, acknowledged=acknowledged)
        proven(scenario, root)
        for path, data in prepared_files.items():
            if "/v1.json" in path:
                assert (root / path).read_bytes() == data, "a committed version was overwritten"
        store = scenario.store(root)
        environment = store.load(ID).environment
        head = (root / PLACE / ID / "audit" / "head.json").read_bytes()
        signed = heads.check(head, trust.of(environment.trust_root), ID)
        assert store.audit(ID).verify(signed.anchor).ok
    except BaseException as error:
        error.add_note(f"{scenario.name}: {where}, {'acknowledged' if acknowledged else 'not acknowledged'}")
        raise


def committed(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("billing-policies/*/*/v*")}


def test_killed_at_each_call(scenario, prepared, place):
    expected, fresh, calls = prepared
    files = committed(place / "prepared")
    for fatal, call in enumerate([*calls, "none"], start=1):
        for torn in {False, call == "write"}:
            root = fresh()
            store = scenario.store(root, Killing(fatal, torn))
            survived = _in_a_child(lambda store=store: answer(store, scenario.act))
            assert survived == (call == "none")
            holds(scenario, expected, files, root, survived, f"killed at call {fatal} ({call})")
            shutil.rmtree(root)
            POINTS["killed"] += not survived


@pytest.mark.parametrize("lasting", [False, True], ids=["EIO", "disk-full"])
def test_each_call_fails(scenario, prepared, place, lasting):
    expected, fresh, calls = prepared
    files = committed(place / "prepared")
    for fatal, call in enumerate(calls, start=1):
        root = fresh()
        disk = Failing(fatal, errno.ENOSPC if lasting else errno.EIO, partial=lasting, lasting=lasting)
        acknowledged = True
        try:
            assert answer(scenario.store(root, disk), scenario.act) == expected.answer
        except StoreError:
            acknowledged = False
        holds(scenario, expected, files, root, acknowledged, f"call {fatal} ({call}) failed")
        shutil.rmtree(root)
        POINTS["failed call"] += 1


def test_power_lost_at_each_call(scenario, prepared, place):
    expected, fresh, _ = prepared
    files = committed(place / "prepared")
    for fatal in count(1):
        root = fresh()
        disk = Volatile(root, fatal)
        acknowledged = True
        try:
            answer(scenario.store(root, disk), scenario.act)
        except PowerLost:
            acknowledged = False
        for seed in (0, fatal):
            image = place / f"image-{fatal}-{seed}"
            disk.image(image, seed)
            holds(scenario, expected, files, image, acknowledged, f"power lost at call {fatal}, disk {seed}")
            shutil.rmtree(image)
            POINTS["power lost"] += 1
        shutil.rmtree(root)
        if acknowledged:
            break


def test_every_point_was_tried(capsys):
    with capsys.disabled():
        print(f"\ncrash points of signed policies: {sum(POINTS.values())} {POINTS}")


def test_what_a_crash_left_is_put_aside_not_overwritten(place):
    scenario = POLICY_SCENARIOS[2]
    scenario.prepare(place / "prepared")
    answer(scenario.store(place / "prepared"), scenario.act)
    folder = place / "prepared" / PLACE / ID / "billing-policies" / "helpdesk" / "acme"
    aside = [path for path in folder.iterdir() if path.suffix == ".aside"]
    assert sorted(path.name.split(".json")[0] for path in aside) == ["v2", "v2"]
    assert {path.read_bytes() for path in aside} == {b"{}"}


def _shares(root, number):
    store = Signing(root, io=Unsynced())
    for turn in range(3):
        store.apply(shared(1_000 * number + turn, f"share-{number}-{turn}"))


def test_writers_at_once_end_up_in_one_chain(place):
    store = Signing(place, io=Unsynced())
    store.apply(WALK.create())
    store.apply(WALK.add())
    children = []
    for number in (1, 2, 3):
        pid = os.fork()
        if pid == 0:
            try:
                _shares(place, number)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    environment = FilesStore(place).load(ID).environment
    assert environment.bundles[0].revenue_policy_ref.endswith("/v10.json.sig")
    from greentic.operations import revenue

    documents, report = revenue.verify(
        environment, FilesStore(place).files(ID), "helpdesk", "acme", environment.bundles[0]
    )
    assert report.ok, report.finding
    assert len(documents) == 10
    assert not list((place / ID).rglob("*.aside"))
