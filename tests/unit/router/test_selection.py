"""Selection: every branch, every pair of them, and what no request can bring about."""

from __future__ import annotations

import base64
import collections
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.router import preview, trust
from greentic.router.compiled import CompiledDeployment, compile_table
from greentic.router.heads import facts_of
from greentic.router.keys import KeyRing, SigningKey, Verified, encode
from greentic.router.pins import Pin
from greentic.router.request import RequestReader
from greentic.router.selection import NO_FACTS, Decision, Facts, in_session, select
from greentic.router.table import SLOTS, RoutingTable
from greentic.spec.errors import Conflict, Denied, NotFound, SpecViolation

SECRET = bytes(range(32))
SLOT_SECRET = bytes(range(1, 33))
RING = KeyRing((SigningKey("k1", SECRET),))
NOW = 1_000_000.0
LATER = 1_000_500


def document(**changes: Any) -> dict[str, Any]:
    """R1 and R2 by halves, R2 since generation 4, R3 ready without traffic, R4 draining and honoured."""
    row = {
        "deployment_id": "D1", "bundle_id": "web", "customer_id": "acme", "tenant": "acme", "team": "ops",
        "hosts": [], "path_prefixes": [], "generation": 5, "pin_seconds": 100,
        "revisions": [
            {"revision_id": "R1", "address": "127.0.0.1:1001", "state": "ready", "since": 1, "name": "v1"},
            {"revision_id": "R2", "address": "127.0.0.1:1002", "state": "ready", "since": 4, "name": "v2"},
            {"revision_id": "R3", "address": "127.0.0.1:1003", "state": "ready", "since": 0, "name": "v3"},
            {"revision_id": "R4", "address": "127.0.0.1:1004", "state": "draining", "since": 2, "name": "v4",
             "honour_until": int(NOW) + 50},
        ],
        "slots": [[5000, 0], [5000, 1]],
        **changes,
    }  # fmt: skip
    keys = {
        "active": "k1",
        "ring": [{"kid": "k1", "secret": base64.b64encode(SECRET).decode()}],
        "slots": base64.b64encode(SLOT_SECRET).decode(),
    }
    return {"version": 1, "env_id": "local", "keys": keys, "deployments": [row], "options": {}}


def compiled(**changes: Any) -> CompiledDeployment:
    return compile_table(RoutingTable.parse(document(**changes))).deployments["D1"]


def key_for(deployment: CompiledDeployment, revision_id: str, kind: bytes = b"u") -> bytes:
    """A key whose slot that revision owns."""
    for number in itertools.count():
        key = kind + b"%d" % number
        if deployment.revisions[deployment.slots[deployment.slot_of(key)]].revision_id == revision_id:
            return key
    raise AssertionError


def cookie(revision_id: str, *, generation: int = 5, expires: int = LATER, slot: int = 0) -> bytes:
    return compiled().mint.issue(Pin(revision_id, generation, expires, slot))


def token(revision_id: str) -> bytes:
    return preview.mint(RING, "D1", revision_id, LATER).encode()


def decide(deployment: CompiledDeployment, facts: Facts, pin: Pin | None, now: float = NOW) -> Decision:
    decision = select(deployment, RING, facts, now)
    if facts.session is not None and decision.promise is not None:
        return in_session(deployment, decision, pin, now)
    return decision


# Order


DEPLOYMENT = compiled()
WAYS: dict[str, tuple[dict[str, Any], Pin | None, str, str]] = {
    # reason: (facts, the session's pin, the revision it leads to)
    "preview": ({"preview_token": token("R3")}, None, "R3", "preview"),
    "header": ({"revision": b"R4"}, None, "R4", "header"),
    "cookie": ({"revision_cookie": cookie("R1", slot=7_000)}, None, "R1", "cookie"),
    "session": ({"session": b"s", "key": key_for(DEPLOYMENT, "R1", b"s")}, Pin("R2", 5, LATER), "R2", "session"),
    "key": ({"key": key_for(DEPLOYMENT, "R1")}, None, "R1", "key"),
    "slot": ({"revision_cookie": cookie("R9", slot=9_000)}, None, "R2", "slot"),
    "sequence": ({}, None, "R1", "sequence"),
}


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
def test_of_two_ways_the_earlier_in_the_order_decides(first: str, second: str) -> None:
    order = list(WAYS)
    earlier, later = sorted((first, second), key=order.index)
    facts = Facts(**{**WAYS[later][0], **WAYS[earlier][0]})
    pin = WAYS[earlier][1] or WAYS[later][1]
    # A session goes first by its pin; its key is the caller's then.
    decision = decide(compiled(), facts, pin)
    assert (decision.reason, decision.revision.revision_id) == (earlier, WAYS[earlier][2])


def test_only_a_new_promise_makes_a_cookie() -> None:
    deployment = compiled()
    made = {name: decide(deployment, Facts(**facts), pin) for name, (facts, pin, _, _) in WAYS.items()}
    assert {name for name, decision in made.items() if decision.promise is not None} == {
        *("session", "key", "slot", "sequence")
    }
    assert made["preview"].preview == token("R3")
    for name in ("key", "slot", "sequence"):
        promise = made[name].promise
        assert promise is not None
        assert promise[:3] == (made[name].revision.revision_id, 5, int(NOW) + 100)
        assert deployment.revisions[deployment.slots[promise.slot]] is made[name].revision
        assert made[name].slot == promise.slot


# Keys


def test_a_key_has_the_same_slot_everywhere_and_after_a_rotation() -> None:
    rotated = document()
    rotated["keys"]["ring"].insert(0, {"kid": "k2", "secret": base64.b64encode(bytes(32)).decode()})
    rotated["keys"]["active"] = "k2"
    other = compile_table(RoutingTable.parse(rotated)).deployments["D1"]
    for number in range(100):
        key = b"u%d" % number
        assert DEPLOYMENT.slot_of(key) == other.slot_of(key) == int.from_bytes(other.digest(key)[:8], "big") % SLOTS


def test_slots_differ_by_deployment_and_by_secret() -> None:
    another = compile_table(RoutingTable.parse(document(deployment_id="D2"))).deployments["D2"]
    guessed = document()
    guessed["keys"]["slots"] = base64.b64encode(bytes(32)).decode()
    stranger = compile_table(RoutingTable.parse(guessed)).deployments["D1"]
    keys = [b"u%d" % number for number in range(200)]
    for other in (another, stranger):
        assert sum(DEPLOYMENT.slot_of(key) == other.slot_of(key) for key in keys) < 5


def test_keys_spread_evenly() -> None:
    """Chi-squared over 100 bins of 100 slots, 20,000 keys: 99 degrees of freedom, 99.9 % of chances below 149."""
    bins = collections.Counter(DEPLOYMENT.slot_of(b"s%d" % number) // 100 for number in range(20_000))
    assert sum((bins[index] - 200) ** 2 / 200 for index in range(100)) < 149


def test_a_key_follows_the_table_and_nothing_else() -> None:
    moved = compiled(slots=[[2500, 0], [7500, 1]], generation=6)
    for number in range(300):
        facts = Facts(key=b"c%d" % number)
        before, after = select(DEPLOYMENT, RING, facts, NOW), select(moved, RING, facts, NOW)
        assert before.slot == after.slot
        assert before.revision.revision_id == after.revision.revision_id or 2500 <= after.slot < 5000


def test_a_key_without_traffic_or_with_a_draining_owner() -> None:
    with pytest.raises(Conflict):
        select(compiled(slots=[]), RING, Facts(key=b"u1"), NOW)
    rows = document()["deployments"][0]["revisions"]
    rows[0]["state"] = "draining"
    deployment = compiled(revisions=rows)
    decision = select(deployment, RING, Facts(key=key_for(deployment, "R1")), NOW)
    assert (decision.reason, decision.revision.revision_id) == ("sequence", "R2")


# Promises


@pytest.mark.parametrize(
    ("pin", "now", "holds"),
    [
        (Pin("R1", 1, LATER), NOW, True),
        (Pin("R1", 0, LATER), NOW, False),
        (Pin("R1", 5, LATER), LATER, False),
        (Pin("R1", 5, LATER), LATER - 0.1, True),
        (Pin("R2", 3, LATER), NOW, False),
        (Pin("R2", 4, LATER), NOW, True),
        (Pin("R3", 5, LATER), NOW, False),
        (Pin("R4", 0, LATER), NOW, True),
        (Pin("R4", 0, LATER), NOW + 49.9, True),
        (Pin("R4", 9, LATER), NOW + 50, False),
        (Pin("R4", 0, int(NOW) + 10), NOW + 10, False),
        (Pin("R9", 5, LATER), NOW, False),
    ],
)
def test_one_rule_for_every_pin(pin: Pin, now: float, holds: bool) -> None:
    deployment = compiled()
    assert (deployment.held(pin, now) is not None) == holds
    by_cookie = select(deployment, RING, Facts(revision_cookie=deployment.mint.issue(pin)), now)
    assert (by_cookie.reason == "cookie") == holds
    # A key whose slot is elsewhere, so that what the pin says shows.
    key = key_for(deployment, "R2" if pin.revision_id == "R1" else "R1", b"s")
    by_session = decide(deployment, Facts(key=key, session=b"x"), pin, now)
    assert (by_session.reason == "session") == holds
    admissible = deployment.admissible(now)
    lowest = admissible.get(pin.revision_id)
    assert (pin.expires > now and lowest is not None and pin.generation >= lowest) == holds


def test_a_sessions_cookie_prolongs_nothing() -> None:
    pin = Pin("R2", 4, int(NOW) + 7)
    key = key_for(DEPLOYMENT, "R1", b"s")
    decision = decide(compiled(), Facts(key=key, session=b"x"), pin)
    assert decision.promise == Pin("R2", 4, int(NOW) + 7, DEPLOYMENT.slot_of(key))
    assert DEPLOYMENT.mint.read(DEPLOYMENT.mint.issue(decision.promise)) == decision.promise
    draining = decide(compiled(), Facts(key=key, session=b"x"), Pin("R4", 1, LATER))
    assert (draining.reason, draining.promise) == ("session", None)


def test_the_pin_that_this_very_request_made_is_no_earlier_one() -> None:
    facts = Facts(key=b"s1", session=b"1")
    decision = select(DEPLOYMENT, RING, facts, NOW)
    assert in_session(DEPLOYMENT, decision, decision.promise, NOW) is decision


# Who may say what


HEAD = (
    "GET / HTTP/1.1\r\nHost: a\r\nX-Greentic-User: ann\r\nX-Greentic-Session: s1\r\n"
    "X-Greentic-Client: c1\r\nX-Greentic-Revision: v3\r\n"
)


class Sink:
    """Keeps the heads that are read."""

    def __init__(self) -> None:
        self.heads: list[Any] = []

    def request_started(self, head: Any) -> None:
        self.heads.append(head)

    def request_body(self, data: bytes) -> None:
        pass

    def request_finished(self, trailers: list[bytes]) -> None:
        pass


def read(text: str) -> Any:
    from greentic.router.limits import Limits

    sink = Sink()
    RequestReader(sink, Limits()).feed(text.encode("latin-1") + b"\r\n")
    (head,) = sink.heads
    return head


def test_what_only_a_trusted_caller_may_say() -> None:
    head = read(HEAD)
    assert facts_of(head, DEPLOYMENT, trusted=True) == Facts(revision=b"v3", key=b"uann", session=b"s1")
    assert facts_of(head, DEPLOYMENT) == Facts(key=b"ss1", session=b"s1")
    assert facts_of(read("GET / HTTP/1.1\r\nHost: a\r\nX-Greentic-Client: c\r\n"), DEPLOYMENT) == Facts(key=b"cc")
    # Nothing of it is told a worker but the hints that anybody may give.
    assert head.lines == [b"X-Greentic-Session: s1", b"X-Greentic-Client: c1"]


@pytest.mark.parametrize(
    "field",
    [
        "X-Greentic-Session: ",
        "X-Greentic-Session: a\r\nx-greentic-session: b",
        "X-Greentic-Session: a\r\nx-greentic-session: a",
        "X-Greentic-Session: a\tb",
        "X-Greentic-Session: é",
        "X-Greentic-Session: " + "x" * 257,
        "X_Greentic_Session: a",
        "X-Greentic-Trust: nothing",
        "X-Greentic-User: ann",
        "X-Greentic-Revision: v3",
    ],
)
def test_what_counts_for_nothing(field: str) -> None:
    facts = facts_of(read(f"GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"), DEPLOYMENT)
    assert (facts.key, facts.session, facts.revision) == (None, None, None)


def test_the_longest_hint() -> None:
    facts = facts_of(read(f"GET / HTTP/1.1\r\nHost: a\r\nX-Greentic-Session: {'x' * 256}\r\n"), DEPLOYMENT)
    assert facts.session == b"x" * 256


@pytest.mark.parametrize(
    ("name", "revision_id"), [(b"R3", "R3"), (b"v3", "R3"), (b"v4", "R4"), (b"R4", "R4"), (b"v1", "R1")]
)
def test_a_trusted_caller_reaches_any_revision_that_is_served(name: bytes, revision_id: str) -> None:
    decision = select(DEPLOYMENT, RING, Facts(revision=name), NOW)
    assert (decision.revision.revision_id, decision.reason, decision.promise) == (revision_id, "header", None)


@pytest.mark.parametrize("name", [b"", b"v9", b"R9", b"V3", b"@latest"])
def test_a_trusted_caller_is_told_that_a_revision_is_not_served(name: bytes) -> None:
    with pytest.raises(NotFound):
        select(DEPLOYMENT, RING, Facts(revision=name), NOW)


def test_trust_tokens() -> None:
    one = trust.mint(RING, "local", "D1", LATER).encode()
    every = trust.mint(RING, "local", None, LATER).encode()
    known: Verified[Any] = Verified()
    for _ in range(2):  # the second time from memory
        assert trust.proves(RING, "local", "D1", one, NOW, known)
        assert trust.proves(RING, "local", "D2", every, NOW, known)
        assert not trust.proves(RING, "local", "D2", one, NOW, known)
        assert not trust.proves(RING, "other", "D1", one, NOW, known)
        assert not trust.proves(RING, "other", "D1", every, NOW, known)
        assert not trust.proves(RING, "local", "D1", one, LATER, known)
    other_ring = KeyRing((SigningKey("k1", bytes(32)),))
    assert not trust.proves(other_ring, "local", "D1", one, NOW)
    for forged in (b"", b".", b"a.b", one[:-1], one + b"=", token("R1"), cookie("R1"), b"x" * 5000, b"\xff.\xff"):
        assert not trust.proves(RING, "local", "D1", forged, NOW, known)
    for facts in (
        b"[]",
        b"null",
        b"{}",
        b'{"e":"local"}',
        b'{"e":"local","x":"soon"}',
        b'{"e":"local","x":1e999}',
        b"[",
    ):
        payload = encode(facts)
        assert not trust.proves(
            RING, "local", "D1", payload + b"." + encode(RING.active.sign(b"trust." + payload)), NOW
        )


def test_no_token_is_one_of_another_kind() -> None:
    grant = trust.mint(RING, "local", None, LATER).encode()
    with pytest.raises(Denied):
        select(DEPLOYMENT, RING, Facts(preview_token=grant), NOW)
    assert select(compiled(), RING, Facts(revision_cookie=grant), NOW).reason == "sequence"


def test_a_key_has_its_own_digest_in_each_deployment_and_under_each_secret() -> None:
    rows = document()
    rows["deployments"].append({**rows["deployments"][0], "deployment_id": "D2"})
    rows["deployments"][1]["revisions"] = [
        {**one, "revision_id": "S" + one["revision_id"]} for one in rows["deployments"][0]["revisions"]
    ]
    tables = [compile_table(RoutingTable.parse(rows)) for _ in range(2)]
    rows["keys"]["slots"] = base64.b64encode(bytes(range(32))).decode()
    tables.append(compile_table(RoutingTable.parse(rows)))
    digests = [[one.digest(b"sx") for one in table.deployments.values()] for table in tables]
    assert digests[0] == digests[1]
    assert len({digest for row in digests for digest in row}) == 4


# Nothing forged selects, nothing forged fails


def test_a_cookie_of_another_deployment_is_none_here_also_when_it_is_known() -> None:
    rows = document()
    rows["deployments"].append(
        {
            **rows["deployments"][0],
            "deployment_id": "D2",
            "revisions": [{"revision_id": "S1", "address": "a:1", "state": "ready"}],
            "slots": [[10_000, 0]],
        }
    )
    table = compile_table(RoutingTable.parse(rows))
    one, two = table.deployments["D1"], table.deployments["D2"]
    value = two.mint.issue(Pin("S1", 5, LATER, 3))
    assert select(two, RING, Facts(revision_cookie=value), NOW).reason == "cookie"
    assert one.mint.read(value) is None
    assert select(one, RING, Facts(revision_cookie=value), NOW).reason == "sequence"
    preview_of_two = preview.mint(RING, "D2", "S1", LATER).encode()
    assert select(two, RING, Facts(preview_token=preview_of_two), NOW).reason == "preview"
    with pytest.raises(Denied, match="another deployment"):
        select(one, RING, Facts(preview_token=preview_of_two), NOW)


def test_a_tenant_that_changed_ends_its_cookies() -> None:
    first = compile_table(RoutingTable.parse(document()))
    value = first.deployments["D1"].mint.issue(Pin("R1", 5, LATER, 3))
    assert first.deployments["D1"].mint.read(value) is not None
    second = compile_table(RoutingTable.parse(document(tenant="other")), first)
    assert second.deployments["D1"].mint.read(value) is None


GENUINE = st.sampled_from(
    [cookie("R1"), cookie("R2", generation=1), cookie("R1", expires=1), cookie("R9"), cookie("R4"), token("R3")]
)
FORGED = st.one_of(
    st.binary(max_size=1200),
    GENUINE.flatmap(
        lambda value: st.tuples(st.integers(0, len(value) - 3), st.binary(min_size=1, max_size=3)).map(
            lambda edit: value[: edit[0]] + edit[1] + value[edit[0] + len(edit[1]) :]
        )
    ).filter(lambda value: value not in ORIGINALS),
)
ORIGINALS = {cookie("R1"), cookie("R2", generation=1), cookie("R1", expires=1), cookie("R9"), cookie("R4"), token("R3")}


@given(FORGED, FORGED, st.one_of(st.none(), st.binary(max_size=300)), st.floats(0, 2e9))
def test_what_is_forged_never_fails_and_never_selects(
    revision_cookie: bytes, preview_cookie: bytes, session: bytes | None, now: float
) -> None:
    key = None if session is None else b"s" + session
    facts = Facts(preview_cookie=preview_cookie, revision_cookie=revision_cookie, key=key, session=session)
    decision = select(DEPLOYMENT, RING, facts, now)
    assert decision.reason == ("sequence" if key is None else "key")
    assert decision.former is None
    assert not trust.proves(RING, "local", "D1", revision_cookie, now)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_a_cookie_header_of_anything_is_read(first: bytes, second: bytes) -> None:
    """Also a cookie that came twice: then nobody can say which is meant, and the visitor is a new one."""
    from greentic.router.heads import sort_cookies

    genuine = cookie("R2")
    header = b"; ".join([first, b"_gt_rev_D1=" + genuine, second, b"_gt_rev_D1=" + genuine])
    _, own = sort_cookies([header])
    assert own.get(b"_gt_rev_D1") is None or b"_gt_rev_D1" in first + second
    facts = Facts(revision_cookie=own.get(b"_gt_rev_D1"))
    assert select(DEPLOYMENT, RING, facts, NOW).revision.revision_id in ("R1", "R2")


def test_no_facts_are_no_facts() -> None:
    assert facts_of(read("GET / HTTP/1.1\r\nHost: a\r\n"), DEPLOYMENT) is NO_FACTS


# The table's part


@pytest.mark.parametrize("secret", [1, "", "x", base64.b64encode(bytes(31)).decode(), "é"])
def test_a_slot_secret_that_is_none_is_refused(secret: Any) -> None:
    table = document()
    table["keys"]["slots"] = secret
    with pytest.raises(SpecViolation) as caught:
        RoutingTable.parse(table)
    assert caught.value.rule == "routing-keys"


def test_cookies_are_secure_when_asked() -> None:
    promise = Pin("R1", 5, LATER, 3)
    table = document()
    table["options"] = {"secure_cookies": True}
    public = compile_table(RoutingTable.parse(table)).deployments["D1"]
    assert b"Secure" not in DEPLOYMENT.cookie_line(promise, secure=False)
    for line in (
        DEPLOYMENT.cookie_line(promise, secure=True),
        public.cookie_line(promise, secure=False),
        public.preview_line(token("R1"), secure=False),
    ):
        assert line.startswith(b"Set-Cookie: _gt_")
        for attribute in (b"Path=/", b"HttpOnly", b"SameSite=Lax", b"Secure"):
            assert line.split(b"; ").count(attribute) == 1


def test_a_promise_to_honour_pins_is_for_those_that_held_when_it_was_made() -> None:
    rows = document()["deployments"][0]["revisions"]
    rows[1] |= {"honour_until": int(NOW) + 50, "honour_since": 2}
    rows[3] |= {"honour_since": 2}
    deployment = compiled(revisions=rows)
    for name in ("R2", "R4"):
        held = [g for g in range(6) if deployment.held(Pin(name, g, int(NOW) + 60), NOW) is not None]
        assert held == [2, 3, 4, 5], name
        assert deployment.admissible(NOW)[name] == 2
    later = NOW + 51
    assert [g for g in range(6) if deployment.held(Pin("R2", g, int(later) + 9), later) is not None] == [4, 5]
    assert deployment.admissible(later) == {"R1": 1, "R2": 4}
