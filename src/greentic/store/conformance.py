"""What every store must show: functions that take two clients of one fresh place and raise AssertionError.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_store(check): check(lambda: (MyStore(place), MyStore(place)))

A store that a server can serve passes `SERVED_CHECKS` too.
They run the engine's own verbs, so they fit a store on another machine as well as one in this process. `Walk` holds the
commands they use; tests of a single implementation may use it too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from greentic.engine.command import Command
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, Denied, GateFailed, GreenticError, InvalidArgument, NotFound
from greentic.spec.integrity import digest
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.parsing import Payload
from greentic.spec.payloads import (
    AddDeploymentPayload,
    ClearTrafficSplitPayload,
    CreateEnvironmentPayload,
    GateFailure,
    HealthGate,
    RevisionPayload,
    SetTrafficSplitPayload,
    StageRevisionPayload,
    UpdateEnvironmentPayload,
    WarmRevisionPayload,
    WeightedRevision,
)
from greentic.spec.revision import PackListEntry
from greentic.store.contract import (
    Completed,
    Decision,
    Effect,
    Files,
    Request,
    ServedStore,
    Settled,
    Store,
    WritableFiles,
)

Clients = tuple[Store, Store]
Factory = Callable[[], Clients]
Served = Callable[[], tuple[ServedStore, ServedStore]]
Error = TypeVar("Error", bound=GreenticError)

DEPLOYMENT = "01J0000000000000000000DEPA"
REVISION = "01J0000000000000000000REVA"


@dataclass(frozen=True, slots=True)
class Walk:
    """Commands on one environment, each under a key of its own unless another is given."""

    environment_id: str = "conform"
    actor: str = "conformance"

    def create(self, key: str = "create") -> Command:
        """The environment, new."""
        return self._command(
            "env", "create", CreateEnvironmentPayload(environment_id=self.environment_id, name="n0"), key
        )

    def rename(self, name: str, key: str | None = None) -> Command:
        """Another display name."""
        return self._command(
            "env", "update", UpdateEnvironmentPayload(name=name), f"rename-{name}" if key is None else key
        )

    def add(self, key: str = "add") -> Command:
        """A deployment with a configuration value."""
        payload = AddDeploymentPayload(
            deployment_id=DEPLOYMENT,
            bundle_id="helpdesk",
            customer_id="acme",
            config_overrides={"chat": {"greeting": "CONFIDENTIAL-VALUE"}},
        )
        return self._command("bundles", "add", payload, key)

    def stage(self, key: str = "stage", revision_id: str = REVISION) -> Command:
        """A revision of it, staged."""
        payload = StageRevisionPayload(
            revision_id=revision_id,
            deployment_id=DEPLOYMENT,
            bundle_digest="sha256:" + "a" * 64,
            bundle_source_uri="https://user:CONFIDENTIAL-VALUE@example.test/x.gtbundle",
            pack_list=(PackListEntry(pack_id="chat", version="1.0.0", digest="sha256:" + "b" * 64),),
            pack_list_lock_ref=f"revisions/{revision_id}/pack-list.lock",
            config_digest="sha256:" + "c" * 64,
        )
        return self._command("revisions", "stage", payload, key)

    def begin_warm(self, key: str = "begin-warm") -> Command:
        """The revision starts to warm."""
        return self._command("revisions", "begin-warm", RevisionPayload(revision_id=REVISION), key)

    def warm(self, *, ok: bool = True, key: str = "warm") -> Command:
        """The verdict of its health gate."""
        failure = None if ok else GateFailure(failed_checks=("http",), message="no answer on /healthz")
        payload = WarmRevisionPayload(revision_id=REVISION, health_gate=HealthGate(ok=ok, failure=failure))
        return self._command("revisions", "warm", payload, key)

    def dial(self, key: str = "dial") -> Command:
        """All traffic of the deployment to the revision."""
        payload = SetTrafficSplitPayload(
            deployment_id=DEPLOYMENT,
            entries=(WeightedRevision(revision_id=REVISION, weight_bps=10_000),),
            updated_by=self.actor,
        )
        return self._command("traffic", "set", payload, key)

    def clear(self, key: str = "clear") -> Command:
        """No traffic for the deployment."""
        payload = ClearTrafficSplitPayload(deployment_id=DEPLOYMENT, updated_by=self.actor)
        return self._command("traffic", "clear", payload, key)

    def to_warming(self) -> tuple[Command, ...]:
        """From nothing to a revision that warms."""
        return (self.create(), self.add(), self.stage(), self.begin_warm())

    def to_ready(self) -> tuple[Command, ...]:
        """From nothing to a ready revision."""
        return (*self.to_warming(), self.warm())

    def _command(self, noun: str, verb: str, payload: Payload, key: str) -> Command:
        return Command(self.environment_id, noun, verb, payload, key, self.actor)


WALK = Walk()


def creation_is_generation_one_and_seen_by_all(make: Factory) -> None:
    """The first change makes generation 1; another client sees it as soon as `apply` returned."""
    one, other = make()
    applied = one.apply(WALK.create())
    seen = other.load(WALK.environment_id)
    assert (applied.generation, applied.replayed) == (1, False)
    assert (seen.generation, seen.etag, seen.environment) == (1, applied.etag, applied.environment)


def each_change_is_one_generation(make: Factory) -> None:
    """Generations grow by one and etags are the digest of the document's canonical JSON."""
    one, other = make()
    for number, command in enumerate((*WALK.to_ready(), WALK.dial()), start=1):
        applied = (one, other)[number % 2].apply(command)
        assert applied.generation == number
        assert applied.etag == digest(applied.environment.to_json())
    assert one.load(WALK.environment_id).environment == other.load(WALK.environment_id).environment


def a_no_op_keeps_the_generation(make: Factory) -> None:
    """Nothing changes, and the repetition of a no-op is a no-op even when later changes would make it one no longer."""
    one, other = make()
    one.apply(WALK.create())
    before = one.load(WALK.environment_id)
    applied = one.apply(WALK.rename("n0", key="no-op"))
    assert (applied.generation, applied.etag, applied.replayed) == (before.generation, before.etag, False)
    other.apply(WALK.rename("n1"))
    assert one.apply(WALK.rename("n0", key="no-op")).replayed
    assert one.load(WALK.environment_id).environment.name == "n1"


def a_refusal_changes_nothing(make: Factory) -> None:
    """Neither the state nor the meaning of the key."""
    one, other = make()
    _raises(NotFound, one.apply, WALK.rename("n1", key="key"))
    _raises(NotFound, one.load, WALK.environment_id)
    one.apply(WALK.create())
    before = one.load(WALK.environment_id)
    _raises(Conflict, other.apply, WALK.create(key="again"))
    _raises(NotFound, other.apply, WALK.stage(key="key"))
    assert _state(one) == (before.generation, before.etag)
    assert other.apply(WALK.rename("n1", key="key")).generation == before.generation + 1


def a_stale_precondition_is_a_conflict(make: Factory) -> None:
    """By generation or by etag, with both actual values in the details; the right one passes."""
    one, other = make()
    first = one.apply(WALK.create())
    second = other.apply(WALK.rename("n1"), expected_generation=1, if_match=first.etag)
    stale: Sequence[dict[str, Any]] = ({"expected_generation": 1}, {"if_match": first.etag}, {"expected_generation": 3})
    for expected in stale:
        for attempt in (one.apply, one.plan):
            details = _raises(Conflict, attempt, WALK.rename("n2"), **expected).details
            assert (details["actual_generation"], details["actual_etag"]) == (2, second.etag)
            assert details["expected_generation"] == expected.get("expected_generation")
            assert details["expected_etag"] == expected.get("if_match")
    assert _state(one) == (2, second.etag)
    assert one.apply(WALK.rename("n2"), expected_generation=2, if_match=second.etag).generation == 3
    elsewhere = Walk("elsewhere")
    refused = _raises(Conflict, one.apply, elsewhere.create(), expected_generation=1)
    assert refused.details["actual_generation"] is None
    _raises(NotFound, one.load, "elsewhere")


def a_repetition_has_one_effect(make: Factory) -> None:
    """From any client, after later changes, and whatever precondition it carries: the recorded result, verbatim."""
    one, other = make()
    one.apply(WALK.create())
    first = one.apply(WALK.add(), expected_generation=1)
    one.apply(WALK.rename("n1"))
    again = other.apply(WALK.add(), expected_generation=1)
    assert again.replayed
    assert again.result == first.result
    assert (again.generation, again.etag) == _state(one)
    assert again.generation == 3
    assert other.plan(WALK.add()).replayed


def a_key_belongs_to_one_request(make: Factory) -> None:
    """Another request under the same key is refused by name and changes nothing."""
    one, other = make()
    one.apply(WALK.create())
    one.apply(WALK.rename("n1", key="key"))
    before = _state(one)
    for client in (one, other):
        error = _raises(Conflict, client.apply, WALK.rename("n2", key="key"))
        assert error.details["reason"] == "idempotency-conflict"
    assert _state(one) == before


def a_failed_gate_is_committed_and_raised_again(make: Factory) -> None:
    """The state says failed, the caller gets the failure, and so does a repetition, with one effect."""
    one, other = make()
    for command in WALK.to_warming():
        one.apply(command)
    generation = one.load(WALK.environment_id).generation
    first = _raises(GateFailed, one.apply, WALK.warm(ok=False))
    assert _lifecycle(other.load(WALK.environment_id).environment) is Lifecycle.FAILED
    again = _raises(GateFailed, other.apply, WALK.warm(ok=False))
    assert again.document() == first.document()
    assert one.load(WALK.environment_id).generation == generation + 1


def a_plan_commits_nothing(make: Factory) -> None:
    """It answers as `apply` would at this moment; the key stays free."""
    one, other = make()
    planned = one.plan(WALK.create())
    assert planned.generation == 1
    _raises(NotFound, other.load, WALK.environment_id)
    assert one.list() == ()
    one.apply(WALK.create())
    before = _state(one)
    planned = one.plan(WALK.rename("n1"))
    assert (planned.generation, planned.replayed, planned.environment.name) == (2, False, "n1")
    assert _state(other) == before
    applied = other.apply(WALK.rename("n1"))
    assert (applied.generation, applied.etag, applied.result) == (2, planned.etag, planned.result)
    _raises(NotFound, one.plan, WALK.stage())


def environments_are_listed_by_name(make: Factory) -> None:
    """All of them, each as `load` gives it."""
    one, other = make()
    assert one.list() == ()
    for name in ("prod", "dev", "local"):
        one.apply(Walk(name).create())
    listed = other.list()
    assert [found.environment_id for found in listed] == ["dev", "local", "prod"]
    for found in listed:
        assert found.error is None
        assert found.stored is not None
        assert found.stored.etag == one.load(found.environment_id).etag


def a_name_stays_inside_the_place(make: Factory) -> None:
    """What could leave a folder, or is no name at all, is refused by every method."""
    one, _ = make()
    for name in ("", ".", "..", "a/b", "/etc", "a\\b", "C:", "a\0b", "a b", "é", "x" * 129):
        _raises(InvalidArgument, one.load, name)
        command = Command(name, "env", "update", UpdateEnvironmentPayload(name="x"), "key", "conformance")
        _raises(InvalidArgument, one.apply, command)
        _raises(InvalidArgument, one.plan, command)
    assert one.list() == ()


def writers_do_not_lose_updates(make: Factory) -> None:
    """Two clients that read, add one and write under a precondition reach the sum of both."""
    clients = make()
    clients[0].apply(WALK.create())
    rounds, failures = 10, []

    def count(client: Store, who: int) -> None:
        try:
            for number in range(rounds):
                while True:
                    seen = client.load(WALK.environment_id)
                    command = WALK.rename(f"n{int(seen.environment.name[1:]) + 1}", key=f"{who}-{number}-{seen.etag}")
                    try:
                        client.apply(command, expected_generation=seen.generation)
                    except Conflict:
                        continue
                    break
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=count, args=(client, who)) for who, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert clients[0].load(WALK.environment_id).environment.name == f"n{2 * rounds}"
    assert clients[1].load(WALK.environment_id).generation == 2 * rounds + 1


CHECKS: tuple[Callable[[Factory], None], ...] = (
    creation_is_generation_one_and_seen_by_all,
    each_change_is_one_generation,
    a_no_op_keeps_the_generation,
    a_refusal_changes_nothing,
    a_stale_precondition_is_a_conflict,
    a_repetition_has_one_effect,
    a_key_belongs_to_one_request,
    a_failed_gate_is_committed_and_raised_again,
    a_plan_commits_nothing,
    environments_are_listed_by_name,
    a_name_stays_inside_the_place,
    writers_do_not_lose_updates,
)


class Nothing(Payload):
    """Asks for nothing."""


def files_are_written_read_and_named(make: Served) -> None:
    """By effects and with changes; another client sees them; what an effect that fails wrote is not kept."""
    one, other = make()
    one.apply(WALK.create())

    def failing(files: WritableFiles) -> dict[str, Any]:
        files.write("env-packs/none", b"none")
        raise Conflict("not like this")

    _raises(Conflict, one.maintain, _effect("failing"), failing)
    told = one.maintain(_effect("writing"), _writing("env-packs/b", b"b"))
    assert (told.result, told.generation) == ({"wrote": "env-packs/b"}, 1)
    again = other.maintain(_effect("writing"), _writing("env-packs/b", b"b"))
    assert again.replayed
    assert again.result == told.result

    def completing(_environment: Environment | None, command: Command, _now: str, files: Files) -> Completed:
        assert files.read("env-packs/b") == b"b"
        return Completed(command.payload, (("env-packs/a/x", b"a"),))

    one.apply(WALK.rename("n1"), complete=completing)
    files = other.files(WALK.environment_id)
    assert files.names("env-packs") == ("env-packs/a/x", "env-packs/b")
    assert (files.read("env-packs/a/x"), files.read("env-packs/none")) == (b"a", None)
    for path in ("", "/x", "../x", "a/../b", "a\0b"):
        _raises(InvalidArgument, files.read, path)


def a_signed_policy_is_only_ever_added(make: Served) -> None:
    """Its bytes are never others."""
    one, other = make()
    one.apply(WALK.create())
    path = "billing-policies/helpdesk/acme/v1.json"
    one.maintain(_effect("one"), _writing(path, b"one"))
    other.maintain(_effect("same"), _writing(path, b"one"))
    _raises(Conflict, other.maintain, _effect("two"), _writing(path, b"two"))
    assert one.files(WALK.environment_id).read(path) == b"one"


def an_answer_is_recorded_and_repeated_verbatim(make: Served) -> None:
    """What the server made of it, by its own fingerprint, with the audit entry that the log holds."""
    one, other = make()
    asked = _request()
    first = one.apply(WALK.create(), request=asked)
    assert (first.result["generation"], first.result["etag"]) == (1, first.etag)
    assert other.events(WALK.environment_id)[-1] == first.result["audit"]
    assert first.result["audit"]["actor"] == {"kind": "bearer-token", "user": "ci"}
    one.apply(WALK.rename("n1"))
    again = other.apply(WALK.create(), request=asked)
    assert (again.replayed, again.generation) == (True, 2)
    assert again.result == first.result


def a_denial_stands_in_the_log(make: Served) -> None:
    """And changes nothing else; where there is no environment there is nothing to stand in."""
    one, other = make()
    one.apply(WALK.create())
    denied = _request(Decision(False, "static-tokens", "role read-only"))
    other.deny(WALK.rename("n1"), denied)
    _raises(Denied, one.apply, WALK.rename("n2"), request=denied)
    other.deny(Walk("nowhere").rename("n1"), denied)
    assert one.names() == (WALK.environment_id,)
    assert _state(one)[0] == 1
    events = [event for event in other.events(WALK.environment_id) if event["authorization"]["decision"] == "deny"]
    assert {event["actor"]["user"] for event in events} == {"ci"}
    assert other.verify_audit(WALK.environment_id).ok


def the_log_is_read_in_pages(make: Served) -> None:
    """By number, none missing and none twice; its end is its head."""
    one, other = make()
    for command in WALK.to_ready():
        one.apply(command)
    events = list(other.audit(WALK.environment_id).events())
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    pages: list[Any] = []
    while page := other.events(WALK.environment_id, after=len(pages), limit=2):
        assert len(page) <= 2
        pages += page
    assert pages == events
    assert other.audit(WALK.environment_id).tail(2) == tuple(events[-2:])
    _raises(NotFound, other.events, "nowhere")


def a_repetition_leaves_nothing_in_the_log(make: Served) -> None:
    """Nor does that of a change which failed and is recorded as failed; the same key for something else does."""
    one, other = make()
    for command in WALK.to_warming():
        one.apply(command)
    _raises(GateFailed, one.apply, WALK.warm(ok=False))
    one.maintain(_effect("writing"), _writing("env-packs/b", b"b"))
    before = other.events(WALK.environment_id)
    one.apply(WALK.add())
    _raises(GateFailed, other.apply, WALK.warm(ok=False))
    other.maintain(_effect("writing"), _writing("env-packs/b", b"b"))
    assert one.events(WALK.environment_id) == before
    _raises(Conflict, one.apply, WALK.rename("n1", key="warm"))
    assert len(other.events(WALK.environment_id)) > len(before)


def a_backup_brings_back_what_was(make: Served) -> None:
    """The generation goes on; a repetition is one."""
    one, other = make()
    before = one.apply(WALK.create())
    taken = one.backups().create(WALK.environment_id, idempotency_key="keep", actor="me").result["backup"]
    other.apply(WALK.rename("n1"))
    assert taken in [kept.name for kept in other.backups().list(WALK.environment_id)]
    for replayed in (False, True):
        restored = other.backups().restore(WALK.environment_id, taken, idempotency_key="back", actor="me")
        assert (restored.etag, restored.generation, restored.replayed) == (before.etag, 3, replayed)
    assert one.at(WALK.environment_id, 3).etag == before.etag
    _raises(NotFound, one.backups().restore, WALK.environment_id, "none", idempotency_key="no", actor="me")


def who_listens_hears_of_a_change(make: Served) -> None:
    """Of each that is made through the same object, until it wants to hear no more."""
    one, _ = make()
    heard: list[tuple[str, int]] = []
    silence = one.subscribe(lambda name, generation: heard.append((name, generation)))
    one.apply(WALK.create())
    one.apply(WALK.rename("n1"))
    silence()
    one.apply(WALK.rename("n2"))
    assert heard == [(WALK.environment_id, 1), (WALK.environment_id, 2)]
    one.probe()


SERVED_CHECKS: tuple[Callable[[Served], None], ...] = (
    files_are_written_read_and_named,
    a_signed_policy_is_only_ever_added,
    an_answer_is_recorded_and_repeated_verbatim,
    a_denial_stands_in_the_log,
    the_log_is_read_in_pages,
    a_repetition_leaves_nothing_in_the_log,
    a_backup_brings_back_what_was,
    who_listens_hears_of_a_change,
)
"""What a store that is served shows besides."""


def _effect(key: str) -> Command:
    return Command(WALK.environment_id, "secrets", "put", Nothing(), key, WALK.actor)


def _writing(path: str, data: bytes) -> Effect:
    def write(files: WritableFiles) -> dict[str, Any]:
        files.write(path, data)
        return {"wrote": path}

    return write


def _request(decision: Decision | None = None) -> Request:
    def envelope(settled: Settled) -> dict[str, Any]:
        return {"etag": settled.etag, "generation": settled.generation, "audit": settled.event}

    allowed = decision or Decision(True, "static-tokens", "role operator")
    return Request("f", {"kind": "bearer-token", "user": "ci"}, allowed, envelope)


def _raises(kind: type[Error], call: Callable[..., object], *arguments: Any, **named: Any) -> Error:
    try:
        call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"expected a {kind.__name__}")


def _state(store: Store) -> tuple[int, str]:
    stored = store.load(WALK.environment_id)
    return stored.generation, stored.etag


def _lifecycle(environment: Environment) -> Lifecycle:
    revision = environment.revision(REVISION)
    assert revision is not None
    return revision.lifecycle
