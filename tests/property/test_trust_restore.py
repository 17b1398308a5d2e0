"""A removed key stays removed, whatever is done through the operations: bootstrap, add, backups, a lost document."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.operations.trust_scene import ID, Scene

from greentic.operations import backups, environments, heads, trust_root
from greentic.spec.errors import NotFound
from greentic.spec.trust_root import KeyRemoved
from greentic.trust import root as trust

OPERATORS = ("anna", "berta", "cleo")
operators = st.sampled_from(OPERATORS)


class Durable(RuleBasedStateMachine):
    """An environment and three operators against two sets: what is trusted and what was removed."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.patch = pytest.MonkeyPatch()
        self.scene = Scene(self.place, self.patch)
        self.scene.create()
        self.ids: dict[str, str] = {}
        for name in OPERATORS:
            self.scene.operator(name)
            self.ids[name] = trust_root.operator_key(create=True).key_id
        self.trusted = {self.ids["anna"]}
        self.removed: set[str] = set()

    def teardown(self) -> None:
        self.patch.undo()
        heads._loaded.cache_clear()
        shutil.rmtree(self.place)

    @rule(who=operators)
    def bootstrap(self, who) -> None:
        self.scene.operator(who)
        try:
            trust_root.bootstrap(self.scene.context(), ID)
        except KeyRemoved:
            assert self.ids[who] in self.removed
        else:
            assert self.ids[who] not in self.removed
            self.trusted.add(self.ids[who])

    @rule(who=operators)
    def init(self, who) -> None:
        self.scene.operator(who)
        assert environments.init(self.scene.context(), ID)["outcome"] == "untouched"

    @rule(who=operators)
    def remove(self, who) -> None:
        if self.ids[who] in self.trusted:
            self.trusted.remove(self.ids[who])
            self.removed.add(self.ids[who])
        trust_root.remove(self.scene.context(), ID, self.ids[who])

    @precondition(lambda self: self.removed)
    @rule(data=st.data())
    def restore_key(self, data) -> None:
        # By name: keys differ from run to run, and so does their order, but a run must be repeatable.
        key_id = self.ids[data.draw(st.sampled_from([who for who in OPERATORS if self.ids[who] in self.removed]))]
        with pytest.raises(KeyRemoved):
            trust_root.add(self.scene.context(), ID, key_id=key_id)
        trust_root.add(self.scene.context(), ID, key_id=key_id, restore=True)
        self.removed.remove(key_id)
        self.trusted.add(key_id)

    @rule(data=st.data(), damaged=st.booleans())
    def restore_backup(self, data, damaged) -> None:
        kept = [one for one in backups.list_(self.scene.context(), ID)["backups"] if one["origin"] != "damaged"]
        if not kept:
            return
        chosen = data.draw(st.sampled_from([None, *(one["name"] for one in kept)]))
        if damaged:
            (self.scene.folder / "environment.json").write_text("{")
        try:
            asyncio.run(backups.restore(self.scene.context(), ID, chosen))
        except NotFound:
            assert chosen is None
            assert not damaged

    @invariant()
    def the_environment_says_what_happened(self) -> None:
        root = trust.of(self.scene.environment.trust_root)
        assert {key.key_id for key in root.trusted()} == self.trusted
        assert {key.key_id for key in root.once_trusted()} == self.removed
        written = trust.read((self.scene.folder / "trust-root.json").read_bytes())
        assert (written.keys, written.removed) == (root.keys, root.removed)


Durable.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestDurable = Durable.TestCase
