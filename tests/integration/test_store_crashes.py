"""Every crash point of the store: the process dies at, or in the middle of, each call that changes something.

Each scenario is run with death at the 1st, 2nd, 3rd … call until a run survives; after each the place is opened again
and must keep the promises of the contract. Some 2,600 points: see what `test_every_point_was_tried` prints.
"""

from __future__ import annotations

import errno
import os
import shutil
import traceback
import warnings
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.integration.store_disks import Counting, Failing, Killing, PowerLost, Short, Volatile
from tests.integration.store_scenarios import SCENARIOS, answer, check, truth

from greentic.spec.errors import StoreError
from greentic.store.failures import RETRY

POINTS = {"killed before a call": 0, "killed within a write": 0, "failed call": 0, "power lost": 0}
LOSSES = 2
"""Disks tried per loss of power: all that was not synced is lost, and a random mixture."""


@pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario.name)
def scenario(request):
    return request.param


@pytest.fixture
def place():
    """A folder in memory, where there is one: thousands of small trees are made and removed."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    with TemporaryDirectory(prefix="greentic-store-", dir=memory if usable else None) as folder:
        yield Path(folder)


@pytest.fixture
def prepared(scenario, place):
    """(what is expected, a function that gives a fresh copy of the place, the calls of the change in their order)."""
    scenario.prepare(place / "prepared")
    numbers = count()

    def fresh():
        root = place / f"run-{next(numbers)}"
        shutil.copytree(place / "prepared", root)
        return root

    counting = Counting()
    answer(scenario.store(fresh(), counting), scenario.act)
    return truth(scenario, place / "peace"), fresh, counting.names


@pytest.mark.parametrize("torn", [False, True], ids=["before", "within-a-write"])
def test_killed_at_each_call(scenario, prepared, torn):
    expected, fresh, calls = prepared
    for fatal, call in enumerate([*calls, "none"], start=1):
        if torn and call != "write":
            continue
        root = fresh()
        store = scenario.store(root, Killing(fatal, torn))
        survived = _in_a_child(lambda store=store: answer(store, scenario.act))
        assert survived == (call == "none")
        _holds(scenario, expected, root, survived, f"killed at call {fatal} ({call})")
        shutil.rmtree(root)
        POINTS["killed within a write" if torn else "killed before a call"] += not survived


@pytest.mark.parametrize(
    ("disk", "only_writes"),
    [
        (lambda fatal: Failing(fatal, errno.EIO), False),
        (lambda fatal: Failing(fatal, errno.ENOSPC, partial=True), True),
        (lambda fatal: Failing(fatal, errno.ENOSPC, lasting=True), False),
        (Short, True),
    ],
    ids=["EIO", "ENOSPC-within-a-write", "disk-full", "short-write"],
)
def test_each_call_fails(scenario, prepared, disk, only_writes):
    expected, fresh, calls = prepared
    for fatal, call in enumerate(calls, start=1):
        if only_writes and call != "write":
            continue
        root = fresh()
        try:
            told = answer(scenario.store(root, disk(fatal)), scenario.act)
        except StoreError as error:
            acknowledged, told = False, error
        else:
            acknowledged = True
        if isinstance(told, StoreError):
            assert told.details["errno"] in {errno.EIO, errno.ENOSPC}
            assert told.next_step == RETRY
        else:
            if isinstance(told, dict) and "kind" in told:  # a refusal stands, whether it could be recorded or not
                told.get("details", {}).pop("audit", None)
            assert told == expected.answer
        _holds(scenario, expected, root, acknowledged, f"call {fatal} ({call}) failed")
        shutil.rmtree(root)
        POINTS["failed call"] += 1


def test_power_lost_at_each_call(scenario, prepared, place):
    expected, fresh, _ = prepared
    for fatal in count(1):
        root = fresh()
        disk = Volatile(root, fatal)
        try:
            answer(scenario.store(root, disk), scenario.act)
        except PowerLost:
            acknowledged = False
        else:
            acknowledged = True
        for seed in range(LOSSES):
            image = place / f"image-{fatal}-{seed}"
            disk.image(image, seed * 1_000 + fatal if seed else 0)
            if expected.after is not None or not acknowledged:
                _holds(scenario, expected, image, acknowledged, f"power lost at call {fatal}, disk {seed}")
            shutil.rmtree(image)
            POINTS["power lost"] += 1
        shutil.rmtree(root)
        if acknowledged:
            break


@pytest.mark.parametrize("scenario", [found for found in SCENARIOS if found.name == "rename"], indirect=True)
def test_power_lost_after_a_death(scenario, prepared, place):
    """A process dies at each call; another one begins with what it left, unsynced as it is; then the power goes."""
    expected, fresh, calls = prepared
    for death in range(1, len(calls) + 1):
        for loss in count(1):
            root = fresh()
            disk = Volatile(root, death)
            with pytest.raises(PowerLost):
                answer(scenario.store(root, disk), scenario.act)
            disk.fatal = disk.calls + loss
            try:
                answer(scenario.store(root, disk), scenario.act)
            except PowerLost:
                acknowledged = False
            else:
                acknowledged = True
            random_one = 1_000 * death + loss
            for seed in [0, random_one, random_one + 500] if acknowledged else [random_one]:
                image = place / f"image-{death}-{loss}-{seed}"
                disk.image(image, seed)
                _holds(scenario, expected, image, acknowledged, f"died at call {death}, power lost {loss} calls later")
                shutil.rmtree(image)
                POINTS["power lost"] += 1
            shutil.rmtree(root)
            if acknowledged:
                break


def test_every_point_was_tried(capsys):
    total = sum(POINTS.values())
    with capsys.disabled():
        print(f"\ncrash points of the store: {total} ({', '.join(f'{kind}: {n}' for kind, n in POINTS.items())})")
    if POINTS["power lost"] and POINTS["killed before a call"]:  # the whole module ran
        assert total > 2_000


def test_the_seam_sees_what_a_change_does(tmp_path):
    """The order that `transaction` argues for, call by call."""
    scenario = next(found for found in SCENARIOS if found.name == "add")
    scenario.prepare(tmp_path / "place")
    seam = Counting()
    scenario.act(scenario.store(tmp_path / "place", seam))
    lock, change = seam.names[:2], seam.names[2:]
    assert lock == ["truncate", "write"]
    assert change == [
        *("open_append", "write", "sync"),  # the intent
        *("open_append", "sync"),  # the ledger record of the change before
        *("create", "write", "sync"),  # the document
        "link",  # the backup
        *("rename", "sync_folder"),  # the commit
        *("open_append", "create", "sync_folder", "open_append", "write"),  # the ledger record, in a new file
        "write",  # the outcome
    ]


def _holds(scenario, expected, root, acknowledged, where):
    try:
        check(scenario, expected, root, acknowledged=acknowledged)
    except BaseException as error:
        error.add_note(f"{scenario.name}: {where}, {'acknowledged' if acknowledged else 'not acknowledged'}")
        raise


def _in_a_child(run) -> bool:
    """Whether `run` came to its end in a process of its own, rather than being killed."""
    with warnings.catch_warnings():
        # The child only runs `run` and leaves; whatever threads others left in this process do not matter to it.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed, see its traceback"
    return not os.WIFSIGNALED(status)
