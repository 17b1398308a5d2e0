"""The store against a plain dict: whatever is asked in whatever order, by two clients, the answers agree."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from greentic.spec.errors import Conflict, CorruptDocument, InvalidArgument, NotFound
from greentic.store.conformance import Walk
from greentic.store.files import FilesStore
from greentic.store.restoring import FolderBackups

NAMES = st.sampled_from(["dev", "prod", "local"])
TITLES = st.sampled_from(["a", "b", "c", "ü – \u2028", '"quoted"\\'])
MEMORY = Path("/dev/shm")


class Places(RuleBasedStateMachine):
    """`model` maps an environment to its titles, one per generation; `backups` to those that were backed up."""

    keys = Bundle("keys")

    @initialize()
    def open(self):
        usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
        self.root = Path(tempfile.mkdtemp(prefix="greentic-model-", dir=MEMORY if usable else None))
        self.clients = [FilesStore(self.root), FilesStore(self.root)]
        self.model: dict[str, list[str]] = {}
        self.backups: dict[str, list[str]] = {}
        self.answers: dict[tuple[str, str], tuple[object, object]] = {}
        self.count = 0

    def teardown(self):
        if hasattr(self, "root"):
            for name in self.model:
                report = self.store.verify_audit(name)
                assert report.ok, report.finding
            shutil.rmtree(self.root)

    def fresh(self) -> str:
        self.count += 1
        return f"key-{self.count}"

    @property
    def store(self) -> FilesStore:
        self.clients.reverse()
        return self.clients[0]

    def recorded(self, name, command, applied):
        self.answers[name, command.idempotency_key] = (command, applied.result)
        return command

    @rule(target=keys, name=NAMES)
    def create(self, name):
        command = Walk(name).create(key=self.fresh())
        if name in self.model:
            with pytest.raises(Conflict):
                self.store.apply(command)
            return multiple()
        applied = self.store.apply(command)
        self.model[name] = ["n0"]
        assert applied.generation == 1
        return self.recorded(name, command, applied)

    @rule(target=keys, name=NAMES, title=TITLES, expected=st.integers(0, 4) | st.none())
    def rename(self, name, title, expected):
        command = Walk(name).rename(title, key=self.fresh())
        titles = self.model.get(name)
        actual = None if titles is None else len(titles)
        if titles is None and expected is None:
            with pytest.raises(NotFound):
                self.store.apply(command)
            return multiple()
        if expected not in {None, actual}:
            with pytest.raises(Conflict) as refused:
                self.store.apply(command, expected_generation=expected)
            assert refused.value.details["actual_generation"] == actual
            return multiple()
        planned = self.store.plan(command, expected_generation=expected)
        applied = self.store.apply(command, expected_generation=expected)
        assert (planned.generation, planned.etag) == (applied.generation, applied.etag)
        if titles[-1] != title:
            self.backups.setdefault(name, []).append(titles[-1])
            titles.append(title)
        assert applied.generation == len(titles)
        return self.recorded(name, command, applied)

    @rule(command=keys)
    def repeat(self, command):
        _, result = self.answers[command.environment_id, command.idempotency_key]
        again = self.store.apply(command, expected_generation=99)
        assert (again.replayed, again.result) == (True, result)

    @rule(command=keys, title=TITLES)
    def misuse(self, command, title):
        other = Walk(command.environment_id).rename(title + "!", key=command.idempotency_key)
        with pytest.raises(Conflict) as refused:
            self.store.apply(other)
        assert refused.value.details["reason"] == "idempotency-conflict"

    @rule(command=consumes(keys), flip=st.integers(0, 10_000))
    def damage_and_restore(self, command, flip):
        name = command.environment_id
        if name not in self.backups:
            return
        path = self.root / name / "environment.json"
        raw = bytearray(path.read_bytes())
        place = flip % len(raw)
        raw[place] ^= 1
        before = self.store.load(name)
        path.write_bytes(bytes(raw))
        fresh = FilesStore(self.root)
        try:
            assert fresh.load(name) == before  # white space may be anything
        except CorruptDocument:
            with pytest.raises(CorruptDocument):
                self.store.apply(Walk(name).rename("x", key=self.fresh()))
            (listed,) = (found for found in self.store.list() if found.environment_id == name)
            assert listed.error is not None
            applied = FolderBackups(self.store).restore(name, idempotency_key=self.fresh(), actor="me")
            self.model[name].append(self.backups[name][-1])
            assert applied.generation == len(self.model[name])

    @rule(name=st.sampled_from(["", "..", "a/b", "a\0"]))
    def nonsense(self, name):
        with pytest.raises(InvalidArgument):
            self.store.load(name)

    @invariant()
    def agree(self):
        if not hasattr(self, "root"):
            return
        seen = {found.environment_id: found.stored for found in self.store.list()}
        assert set(seen) == set(self.model)
        for name, titles in self.model.items():
            assert (seen[name].environment.name, seen[name].generation) == (titles[-1], len(titles))
            assert self.store.load(name).etag == seen[name].etag


Places.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
test_places = Places.TestCase
