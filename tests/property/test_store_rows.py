"""The rows of a document, whatever was kept of the rows before, are those of the environment and no other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.strategies import Scene, rearranged, reference_environment, scenes, sprinkled

from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument
from greentic.spec.integrity import canonical_json, digest
from greentic.store.sql import rows
from greentic.store.sql.rows import State

REFERENCE = reference_environment()
STRIDE = rows._STRIDE


class Table:
    """What the rows of one environment come to in a database: every version of each, by its key."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, int], bytes | None] = {}
        self.states: list[State] = []

    def apply(self, environment: Environment) -> State:
        """Insert what a change inserts; never over another row of the same change."""
        before = self.states[-1] if self.states else None
        change = rows.change(environment, before)
        generation = len(self.states) + 1
        for section, position, data in change.rows:
            key = (section, position, generation)
            assert key not in self.rows
            self.rows[key] = data
        self.states.append(change.state(environment, generation))
        return self.states[-1]

    def select(self, above: int, upto: int) -> list[tuple[str, int, bytes | None]]:
        """The rows of generations `above` < g <= `upto` in the order of a query."""
        return [
            (section, position, data)
            for (section, position, generation), data in sorted(self.rows.items(), key=lambda row: row[0])
            if above < generation <= upto
        ]

    def check_newest(self) -> None:
        """The newest state is read back from the rows."""
        state, number = self.states[-1], len(self.states)
        read = rows.assembled(
            self.select(0, number), number, state.stored.etag, state.stored.environment.environment_id
        )
        assert (read.stored, read.sections) == (state.stored, state.sections)

    def check(self) -> None:
        """Every state is read back from the rows, and from each state before it."""
        for number, state in enumerate(self.states, start=1):
            wanted = state.stored.environment.to_json()
            assert state.stored.etag == digest(wanted)
            assert rows.text(state) == canonical_json(wanted)
            name = state.stored.environment.environment_id
            read = rows.assembled(self.select(0, number), number, state.stored.etag, name)
            assert read.stored == state.stored
            assert read.sections == state.sections
            for earlier in range(1, number):
                younger = self.select(earlier, number)
                advanced = rows.advanced(self.states[earlier - 1], younger, number, state.stored.etag)
                assert (advanced.stored, advanced.sections) == (state.stored, state.sections)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_what_is_kept_is_what_would_be_written_anew(data: st.DataObject) -> None:
    table = Table()
    table.apply(Environment.model_validate(data.draw(sprinkled(REFERENCE))))
    other = Environment.model_validate(REFERENCE)
    for _ in range(4):
        table.apply(data.draw(rearranged(table.states[-1].stored.environment, other)))
    table.check()


@given(scenes())
@settings(deadline=None, max_examples=30)
def test_a_life_by_real_verbs(scene: Scene) -> None:
    table = Table()
    table.apply(scene.environment)
    table.apply(scene.environment.model_copy(update={"name": "another"}))
    table.check()


def numbered(count: int) -> Environment:
    """An environment with `count` revisions."""
    one = Environment.model_validate(REFERENCE)
    revision = one.revisions[0]
    many = tuple(revision.model_copy(update={"sequence": number + 1}) for number in range(count))
    return one.model_copy(update={"revisions": many})


def inserted(table: Table) -> list[tuple[str, int]]:
    """Which rows the newest change inserted."""
    newest = len(table.states)
    return sorted((section, position) for section, position, generation in table.rows if generation == newest)


class TestHowLittleIsWritten:
    """A change inserts rows for what it changed, however long the lists are."""

    @pytest.fixture
    def table(self) -> Table:
        table = Table()
        table.apply(numbered(1_000))
        return table

    def changed(self, table: Table, revisions: tuple) -> list[tuple[str, int]]:
        present = table.states[-1].stored.environment
        table.apply(present.model_copy(update={"revisions": revisions}))
        assert table.states[-1].stored.etag == digest(table.states[-1].stored.environment.to_json())
        return inserted(table)

    def test_one_more(self, table: Table) -> None:
        old = table.states[-1].stored.environment.revisions
        fresh = old[0].model_copy(update={"sequence": 5_000})
        assert self.changed(table, (*old, fresh)) == [("revisions", 1_001 * STRIDE)]

    def test_another_in_its_place(self, table: Table) -> None:
        old = table.states[-1].stored.environment.revisions
        fresh = old[0].model_copy(update={"sequence": 5_000})
        assert self.changed(table, (*old[:500], fresh, *old[501:])) == [("revisions", 501 * STRIDE)]

    def test_one_less(self, table: Table) -> None:
        old = table.states[-1].stored.environment.revisions
        assert self.changed(table, (*old[:500], *old[501:])) == [("revisions", 501 * STRIDE)]

    def test_the_first_goes_and_one_is_added(self, table: Table) -> None:
        old = table.states[-1].stored.environment.revisions
        fresh = old[0].model_copy(update={"sequence": 5_000})
        assert self.changed(table, (*old[1:], fresh)) == [("revisions", STRIDE), ("revisions", 1_001 * STRIDE)]

    def test_one_more_between_two(self, table: Table) -> None:
        fresh = table.states[-1].stored.environment.revisions[0]
        for number in range(1, 40):
            old = table.states[-1].stored.environment.revisions
            wanted = [("revisions", 500 * STRIDE + number * 2**16)]
            one = fresh.model_copy(update={"sequence": 5_000 + number})
            assert self.changed(table, (*old[: 499 + number], one, *old[499 + number :])) == wanted
        table.check_newest()

    def test_where_no_room_is_left_the_list_is_numbered_anew(self, table: Table) -> None:
        fresh = table.states[-1].stored.environment.revisions[0]
        most = 0
        for number in range(40):
            old = table.states[-1].stored.environment.revisions
            one = fresh.model_copy(update={"sequence": 5_000 + number})
            most = max(most, len(self.changed(table, (*old[:500], one, *old[500:]))))
        assert most > 500
        table.check_newest()

    def test_another_order_is_numbered_anew(self, table: Table) -> None:
        old = table.states[-1].stored.environment.revisions
        self.changed(table, old[::-1])
        table.check()

    def test_nothing_of_a_list_that_is_equal(self, table: Table) -> None:
        old = table.states[-1].stored.environment.revisions
        copied = tuple(one.model_copy() for one in old)
        assert self.changed(table, copied) == []

    def test_only_what_differs_is_hashed(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        hashed = 0
        real = rows.hashlib.sha256

        class Counting:
            def __init__(self, inner=None):
                self._inner = inner or real()

            def copy(self):
                return Counting(self._inner.copy())

            def update(self, data):
                nonlocal hashed
                hashed += len(data)
                self._inner.update(data)

            def hexdigest(self):
                return self._inner.hexdigest()

        present = table.states[-1].stored.environment
        monkeypatch.setattr(rows.hashlib, "sha256", Counting)
        table.states.clear()
        table.rows.clear()
        table.apply(present)
        whole, hashed = hashed, 0
        fresh = present.revisions[0].model_copy(update={"sequence": 5_000})
        table.apply(present.model_copy(update={"revisions": (*present.revisions, fresh)}))
        assert hashed < whole / 5


class TestWhatIsSpoiled:
    @pytest.fixture
    def table(self) -> Table:
        table = Table()
        table.apply(Environment.model_validate(REFERENCE))
        return table

    def test_any_row_that_differs_is_found(self, table: Table) -> None:
        state = table.states[-1]
        good = table.select(0, 1)
        for number, (section, position, data) in enumerate(good):
            assert data is not None
            for spoiled in (data[:-2] + b"x" + data[-1:], data.replace(b'"', b'" ', 1), None, b"", b"null", b"[]"):
                bad = [*good[:number], (section, position, spoiled), *good[number + 1 :]]
                with pytest.raises(CorruptDocument):
                    rows.assembled(bad, 1, state.stored.etag, state.stored.environment.environment_id)

    def test_any_row_that_is_gone_or_twice_is_found(self, table: Table) -> None:
        state = table.states[-1]
        good = table.select(0, 1)
        name = state.stored.environment.environment_id
        for number, (section, _, data) in enumerate(good):
            bad = [*good[:number], *good[number + 1 :]]
            with pytest.raises(CorruptDocument):
                rows.assembled(bad, 1, state.stored.etag, name)
            if section:
                with pytest.raises(CorruptDocument):
                    rows.assembled([*good, (section, 10_000, data)], 1, state.stored.etag, name)
        with pytest.raises(CorruptDocument):
            rows.assembled(good, 1, state.stored.etag, "another")
