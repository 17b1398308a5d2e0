"""The router's small parts as tables of named cases."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from greentic.router.compiled import compile_table
from greentic.router.cookie import CookieMint
from greentic.router.frames import FRAME_LIMIT, FrameReader, encode_frame
from greentic.router.keys import VERIFIED_LIMIT, KeyRing, SigningKey, Verified, decode, encode
from greentic.router.limits import Limits
from greentic.router.matching import AmbiguousPath, Matcher, normalise_host, resolve
from greentic.router.pins import Pin
from greentic.router.preview import mint, verify
from greentic.router.selection import NO_FACTS, Decision, Facts, select
from greentic.router.sequence import VisitorSequence
from greentic.router.table import RoutingTable
from greentic.router.tally import BOUNDS_MS, BUCKETS, bucket, quantile_ms
from greentic.router.websocket import FrameBoundary, close_away
from greentic.spec.errors import Conflict, Denied, SpecViolation

SECRET = bytes(range(32))
RING = KeyRing((SigningKey("k1", SECRET),))


def document(**changes: Any) -> dict[str, Any]:
    """A table of one deployment: R1 70 %, R2 30 %, R3 ready without traffic, R4 draining without traffic."""
    row = {
        "deployment_id": "D1", "bundle_id": "web", "customer_id": "acme", "tenant": "acme", "team": "ops",
        "hosts": [], "path_prefixes": [], "generation": 5, "pin_seconds": 100,
        "revisions": [
            {"revision_id": "R1", "address": "127.0.0.1:1001", "state": "ready", "since": 1, "name": "v1"},
            {"revision_id": "R2", "address": "[::1]:1002", "state": "ready", "since": 4, "name": "v2"},
            {"revision_id": "R3", "address": "localhost:1003", "state": "ready", "since": 0},
            {"revision_id": "R4", "address": "127.0.0.1:1004", "state": "draining", "since": 2},
        ],
        "slots": [[7000, 0], [3000, 1]],
        **changes,
    }  # fmt: skip
    secret = base64.b64encode(SECRET).decode()
    return {
        "version": 1, "env_id": "local", "keys": {"active": "k1", "ring": [{"kid": "k1", "secret": secret}]},
        "deployments": [row], "options": {},
    }  # fmt: skip


def compiled(**changes: Any) -> Any:
    return compile_table(RoutingTable.parse(document(**changes))).deployments["D1"]


# Keys, cookies, preview tokens


def test_a_signature_is_hmac_sha256() -> None:
    for message in (b"", b"x", b"x" * 1000):
        assert SigningKey("k", SECRET).sign(message) == hmac.digest(SECRET, message, hashlib.sha256)
    assert "\\x" not in repr(SigningKey("k", SECRET))


def test_base64url_without_padding() -> None:
    for data in (b"", b"a", b"ab", b"abc", bytes(range(256))):
        assert encode(data) == base64.urlsafe_b64encode(data).rstrip(b"=")
        assert decode(encode(data)) == data
    for wrong in (b"a", b"ab=", b"a+b/", b"ab cd", b"\xff\xff\xff\xff", b"YQ=="):
        with pytest.raises(ValueError):
            decode(wrong)


def mint_of(ring: KeyRing = RING, **changes: Any) -> CookieMint:
    facts = {"env_id": "local", "tenant": "acme", "deployment_id": "D1", "generation": 5, "revision_ids": ("R1", "R2")}
    return CookieMint(ring, **{**facts, **changes})


def test_a_cookie_has_the_reference_format() -> None:
    value = mint_of().issue(Pin("R2", 5, 1_900_000_000, 42))
    first, _, second = value.partition(b".")
    assert base64.urlsafe_b64decode(second + b"=") == hmac.digest(SECRET, first, hashlib.sha256)
    facts = json.loads(base64.urlsafe_b64decode(first + b"=" * (-len(first) % 4)))
    expected = {"e": "local", "t": "acme", "d": "D1", "r": "R2", "g": 5, "x": 1_900_000_000, "k": "k1", "s": 42}
    assert facts == expected


def test_a_cookie_reads_back_and_survives_a_rotation() -> None:
    value = mint_of().issue(Pin("R1", 5, 1_900_000_000, 9_999))
    rotated = KeyRing((SigningKey("k2", bytes(32)), SigningKey("k1", SECRET)))
    for reader in (mint_of(), mint_of(rotated), mint_of(generation=9, revision_ids=())):
        pin = reader.read(value)
        assert pin is not None
        assert (pin.revision_id, pin.generation, pin.expires, pin.slot) == ("R1", 5, 1_900_000_000, 9_999)
    assert mint_of(KeyRing((SigningKey("k1", bytes(32)),))).read(value) is None


def test_a_cookie_that_was_issued_before_is_issued_again() -> None:
    """Whatever deployments share the memory of it, and however many promises there are."""
    issued: Verified[bytes] = Verified()
    mints = [mint_of(issued=issued), mint_of(issued=issued, deployment_id="D2"), mint_of(issued=issued, tenant="b")]
    pins = [Pin("R1", 5, 1_900_000_000, 1), Pin("R1", 5, 1_900_000_000, 2), Pin("R2", 4, 1_900_000_000, 1)]
    for _ in range(2):
        for one in mints:
            for pin in pins:
                assert one.issue_again(pin) == one.issue(pin)
                assert one.read(one.issue_again(pin)) == pin
    one = mints[0]
    assert one.issue_again(pins[0]) is one.issue_again(pins[0])
    for slot in range(VERIFIED_LIMIT + 10):
        one.issue_again(Pin("R1", 5, 1_900_000_000, slot))
        assert len(issued._said) <= VERIFIED_LIMIT


def signed(facts: Any) -> bytes:
    payload = encode(json.dumps(facts).encode() if not isinstance(facts, bytes) else facts)
    return payload + b"." + encode(RING.active.sign(payload))


GOOD = {"e": "local", "t": "acme", "d": "D1", "r": "R1", "g": 5, "x": 1_900_000_000}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b".",
        b"a.b",
        b"a.b.c",
        b"\xff.\xff",
        signed({**GOOD, "e": "other"}),
        signed({**GOOD, "t": "other"}),
        signed({**GOOD, "d": "D2"}),
        signed({**GOOD, "g": "five"}),
        signed({**GOOD, "x": None}),
        signed({key: GOOD[key] for key in "etdrg"}),
        signed([1]),
        signed(b"not json"),
        signed(b"[" * 500),
        signed({**GOOD, "pad": "x" * 1024}),
        signed(GOOD)[:-1],
        signed(GOOD) + b"=",
        b"x" + signed(GOOD),
        mint(RING, "D1", "R1", 1_900_000_000).encode(),
    ],
)
def test_what_is_no_genuine_cookie_is_no_cookie(value: bytes) -> None:
    assert mint_of().read(value) is None


def test_a_cookie_of_the_reference_has_no_slot() -> None:
    pin = mint_of().read(signed(GOOD))
    assert pin is not None
    assert pin.slot == -1


def test_preview_tokens() -> None:
    token = mint(RING, "D1", "R1", 1000).encode()
    assert verify(RING, "D1", token, 999).revision_id == "R1"
    cases = {
        "expired": ("D1", token, 1000.0),
        "another deployment": ("D2", token, 1.0),
        "genuine": ("D1", token[:-3] + b"AAA", 1.0),
        "not a preview": ("D1", b"x", 1.0),
        "key has been retired": ("D1", mint_of().issue(Pin("R1", 5, 9, 9)), 1.0),
    }
    for words, (deployment_id, value, now) in cases.items():
        with pytest.raises(Denied, match=words):
            verify(RING, deployment_id, value, now)


# Selection


def facts(revision_id: str, *, expires: int = 2_000, generation: int = 5, slot: int = 0) -> Facts:
    return Facts(revision_cookie=mint_of().issue(Pin(revision_id, generation, expires, slot)))


def promised(deployment: Any, decision: Decision) -> Pin:
    """What the cookie says that a browser gets."""
    assert decision.promise is not None
    line = deployment.cookie_line(decision.promise, secure=False)
    pin = mint_of().read(line.partition(b"=")[2].partition(b";")[0])
    assert pin == decision.promise
    return pin


@pytest.mark.parametrize(
    ("name", "given", "revision_id", "reason"),
    [
        ("no facts", NO_FACTS, "R1", "sequence"),
        ("a live pin", facts("R2"), "R2", "cookie"),
        ("a pin issued when its revision entered", facts("R2", generation=4), "R2", "cookie"),
        ("a pin older than its revision's entry", facts("R2", generation=3, slot=9_999), "R2", "slot"),
        ("a pin older than its entry, slot elsewhere", facts("R2", generation=3, slot=0), "R1", "slot"),
        ("a pin at its end", facts("R2", expires=1_000, slot=6_999), "R1", "slot"),
        ("a pin to no traffic", facts("R3", slot=7_000), "R2", "slot"),
        ("a pin to a stranger", facts("R9", slot=7_000), "R2", "slot"),
        ("a slot out of range", facts("R9", slot=10_000), "R1", "sequence"),
        ("a forged cookie", Facts(revision_cookie=b"x.y"), "R1", "sequence"),
        ("preview before cookie", Facts(mint(RING, "D1", "R3", 2_000).encode(), None, b"x"), "R3", "preview"),
        ("preview by cookie", Facts(None, mint(RING, "D1", "R3", 2_000).encode()), "R3", "preview"),
        ("a preview cookie at its end", Facts(None, mint(RING, "D1", "R3", 1_000).encode()), "R1", "sequence"),
        ("a preview cookie to a draining one", Facts(None, mint(RING, "D1", "R4", 2_000).encode()), "R1", "sequence"),
    ],
)
def test_the_order_of_selection(name: str, given: Facts, revision_id: str, reason: str) -> None:
    decision = select(compiled(), RING, given, 1_000.5)
    assert (decision.revision.revision_id, decision.reason) == (revision_id, reason), name
    if reason in ("slot", "sequence"):
        pin = promised(compiled(), decision)
        assert (pin.revision_id, pin.generation, pin.expires) == (revision_id, 5, 1_100)
        assert compiled().slots[pin.slot] == decision.revision.index
    else:
        assert decision.promise is None


@pytest.mark.parametrize("state", ["ready", "draining"])
def test_a_revision_without_a_share_honours_its_pins_while_it_is_told_to(state: str) -> None:
    rows = document()["deployments"][0]["revisions"]
    rows[2] |= {"state": state, "honour_until": 1_500}
    deployment = compiled(revisions=rows)
    for generation in (0, 5):
        assert select(deployment, RING, facts("R3", generation=generation), 1_499.9).reason == "cookie"
        assert select(deployment, RING, facts("R3", generation=generation, slot=7_000), 1_500).reason == "slot"
    assert select(deployment, RING, facts("R3", expires=1_200, slot=7_000), 1_300).reason == "slot", "its own end"
    drawn = {select(deployment, RING, NO_FACTS, 1_000).revision.revision_id for _ in range(50)}
    assert drawn == {"R1", "R2"}, "a promise to some brings nobody new"


def test_a_revision_with_a_share_honours_pins_that_were_evicted_later_on() -> None:
    rows = document()["deployments"][0]["revisions"]
    rows[1]["honour_until"] = 1_500
    deployment = compiled(revisions=rows)
    assert select(deployment, RING, facts("R2", generation=3), 1_499).reason == "cookie"
    assert select(deployment, RING, facts("R2", generation=3), 1_500).reason == "slot"
    assert select(deployment, RING, facts("R2", generation=4), 1_500).reason == "cookie"


@pytest.mark.parametrize("revision_id", ["R4", "R9"])
def test_a_preview_that_was_asked_for_and_cannot_be_is_denied(revision_id: str) -> None:
    with pytest.raises(Denied):
        select(compiled(), RING, Facts(mint(RING, "D1", revision_id, 2_000).encode()), 1_000)


def draining(index: int) -> dict[str, Any]:
    rows = document()["deployments"][0]["revisions"]
    rows[index]["state"] = "draining"
    return {"revisions": rows}


def test_a_draining_revision_keeps_its_pins_and_gets_no_new_visitors() -> None:
    deployment = compiled(**draining(1))
    assert select(deployment, RING, facts("R2"), 1_000).revision.revision_id == "R2"
    assert select(deployment, RING, facts("R2", expires=1, slot=9_999), 1_000).reason == "sequence"
    drawn = {select(deployment, RING, NO_FACTS, 1_000).revision.revision_id for _ in range(50)}
    assert drawn == {"R1"}
    rows = draining(1)["revisions"]
    rows[0]["state"] = "draining"
    with pytest.raises(Conflict):
        select(compiled(revisions=rows), RING, NO_FACTS, 1_000)


def test_a_new_visitor_gets_the_next_slot_of_the_revision() -> None:
    visitors = VisitorSequence([(2, 0), (9_990, 1), (8, 0)], [True, True])
    slots = [draw[1] for _ in range(20_000) if (draw := visitors.draw()) is not None and draw[0] == 0]
    assert slots[:10] == [0, 9_997, 9_994, 1, 9_998, 9_995, 9_992, 9_999, 9_996, 9_993], "every seventh of its ten"
    assert slots[:10] == slots[10:]


# Matching


@pytest.mark.parametrize(
    ("field", "host"),
    [
        (b"Example.ORG", b"example.org"),
        (b"example.org:8080", b"example.org"),
        (b"example.org:", b"example.org"),
        (b"example.org.", b"example.org"),
        (b"[::1]:80", b"::1"),
        (b"[::1]", b"::1"),
        (b"127.0.0.1:1", b"127.0.0.1"),
        (b"", b""),
        (b"::1", None),
        (b"a b", None),
        (b"a,b", b"a,b"),
        (b"a/b", None),
        (b"a@b", None),
        (b"a:b", None),
        (b"a\xe9", None),
    ],
)
def test_normalise_host(field: bytes, host: bytes | None) -> None:
    assert normalise_host(field) == host


MATCHER = Matcher(
    [
        ("any root", (), ()),
        ("any api", (), ("/api",)),
        ("any deep", (), ("/api/v1/deep",)),
        ("host root", ("h.example", "::1"), ("/",)),
        ("host api", ("h.example",), ("/api",)),
        ("late", (), ("/api",)),
    ]
)


@pytest.mark.parametrize(
    ("host", "path", "target"),
    [
        (b"x", b"/", "any root"),
        (b"", b"/", "any root"),
        (b"x", b"/api", "any api"),
        (b"x", b"/api/", "any api"),
        (b"x", b"/api/x/y/z/" + b"a/" * 5000, "any api"),
        (b"x", b"/apix", "any root"),
        (b"x", b"/API", "any root"),
        (b"x", b"/api/v1/deep/x", "any deep"),
        (b"h.example", b"/", "host root"),
        (b"h.example", b"/api", "host api"),
        (b"h.example", b"/api/v1/deep", "any deep"),
        (b"::1", b"/x", "host root"),
        (b"x", b"/api/a%2Fb", "any api"),
        (b"x", b"/api/./x", "any api"),
        (b"x", b"/api/x/../y", "any api"),
        (b"x", b"/x%20y", "any root"),
        (b"x", b"/a//b", "any root"),
        (b"x", b"/../../x", "any root"),
    ],
)
def test_matching(host: bytes, path: bytes, target: str) -> None:
    route = MATCHER.match(host, path)
    assert route is not None
    assert route.target == target


@pytest.mark.parametrize(
    "path", [b"/api/../x", b"/api/%2e%2e/x", b"/x/../api", b"//api", b"/%61pi", b"/api%2Fx", b"/./api", b"/x\\..\\api"]
)
def test_a_path_with_two_readings_is_refused(path: bytes) -> None:
    with pytest.raises(AmbiguousPath):
        MATCHER.match(b"x", path)


def test_resolve() -> None:
    assert resolve(b"/a/./b//../c%2Fd/") == b"/a/c/d"
    assert resolve(b"/..") == b"/"


def test_what_is_shadowed_is_named_and_nothing_matches_without_a_binding() -> None:
    assert [target for target, _, _ in MATCHER.shadowed] == ["late"]
    assert Matcher([("a", ("h",), ())]).match(b"x", b"/") is None


# The table

MALFORMED = [
    ("routing-table", {"revisions": None}),
    ("routing-table", {"revisions": [1]}),
    ("routing-table", {"deployment_id": "a b"}),
    ("routing-table", {"deployment_id": "../x"}),
    ("routing-table", {"tenant": "a\r\nb"}),
    ("routing-table", {"tenant": 3}),
    ("routing-table", {"generation": -1}),
    ("routing-table", {"generation": True}),
    ("routing-table", {"pin_seconds": "1"}),
    ("route-binding", {"hosts": ["a b"]}),
    ("route-binding", {"hosts": ["a:80"]}),
    ("route-binding", {"hosts": [""]}),
    ("route-binding", {"path_prefixes": ["api"]}),
    ("route-binding", {"path_prefixes": ["/a/../b"]}),
    ("route-binding", {"path_prefixes": ["/a%2Fb"]}),
    ("route-binding", {"path_prefixes": ["/a b"]}),
    ("route-binding", {"path_prefixes": ["/a;\r\n"]}),
    ("traffic-slots", {"slots": [[9_999, 0]]}),
    ("traffic-slots", {"slots": [[10_000, 4]]}),
    ("traffic-slots", {"slots": [[10_001, 0]]}),
    ("traffic-slots", {"slots": [[0, 0], [10_000, 0]]}),
    ("traffic-slots", {"slots": [[True, 0]]}),
    ("traffic-slots", {"slots": [[10_000, -1]]}),
    ("traffic-slots", {"slots": [10_000]}),
]


@pytest.mark.parametrize(("rule", "changes"), MALFORMED)
def test_a_malformed_deployment_is_refused(rule: str, changes: dict[str, Any]) -> None:
    with pytest.raises(SpecViolation) as caught:
        RoutingTable.parse(document(**changes))
    assert caught.value.rule == rule


@pytest.mark.parametrize("address", ["x", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "a b:1", "::1:1", 7, None])
def test_a_malformed_address_is_refused(address: Any) -> None:
    rows = document()["deployments"][0]["revisions"]
    rows[0]["address"] = address
    with pytest.raises(SpecViolation, match="address"):
        RoutingTable.parse(document(revisions=rows))


def test_keys_are_checked_and_never_shown() -> None:
    good = document()
    secret = good["keys"]["ring"][0]["secret"]
    for keys in (
        {"active": "k2", "ring": good["keys"]["ring"]},
        {"active": "k1", "ring": []},
        {"active": "k1", "ring": good["keys"]["ring"] * 2},
        {"active": "k1", "ring": [{"kid": "k1", "secret": secret[:-4]}]},
        {"active": "k1", "ring": [{"kid": "k1", "secret": secret + "!"}]},
        {"active": "k1", "ring": [{"kid": f"k{n}", "secret": secret} for n in range(5)]},
        None,
    ):
        with pytest.raises(SpecViolation) as caught:
            RoutingTable.parse({**good, "keys": keys})
        assert secret[:8] not in caught.value.message
    assert secret not in repr(RoutingTable.parse(good))


def test_duplicates_are_refused_and_unknown_keys_ignored() -> None:
    good = document()
    row = good["deployments"][0]
    with pytest.raises(SpecViolation, match="deployment D1"):
        RoutingTable.parse({**good, "deployments": [row, row]})
    with pytest.raises(SpecViolation, match="revision R1"):
        RoutingTable.parse({**good, "deployments": [row, {**row, "deployment_id": "D2"}]})
    parsed = RoutingTable.parse({**good, "later": 1, "options": {"later": 1, "limits": {"later": 1}}})
    assert parsed.limits == Limits()
    assert [(r.host, r.port) for r in parsed.deployments[0].revisions[:3]] == [
        ("127.0.0.1", 1001),
        ("::1", 1002),
        ("localhost", 1003),
    ]


def test_limits() -> None:
    assert Limits.parse({"header_seconds": 0.5, "max_headers": 3}) == Limits(header_seconds=0.5, max_headers=3)
    for wrong in (
        [],
        {"max_headers": 1.5},
        {"header_seconds": 0},
        {"header_seconds": float("nan")},
        {"max_headers": True},
    ):
        with pytest.raises(SpecViolation):
            Limits.parse(wrong)


def test_a_cookie_path_covers_every_prefix() -> None:
    for prefixes, path in (
        ([], b"/"),
        (["/api"], b"/api"),
        (["/a/b", "/a/c"], b"/a"),
        (["/ab", "/a"], b"/"),
        (["/"], b"/"),
    ):
        assert compiled(path_prefixes=prefixes).cookie_path == path


def test_an_unchanged_deployment_keeps_its_sequence() -> None:
    first = compile_table(RoutingTable.parse(document()))
    same = compile_table(RoutingTable.parse(document(generation=6)), first)
    other = compile_table(RoutingTable.parse(document(slots=[[7001, 0], [2999, 1]])), first)
    assert same.deployments["D1"].visitors is first.deployments["D1"].visitors
    assert other.deployments["D1"].visitors is not first.deployments["D1"].visitors


def test_a_rotated_key_signs_at_once() -> None:
    first = compile_table(RoutingTable.parse(document()))
    assert compile_table(RoutingTable.parse(document()), first).deployments["D1"] is first.deployments["D1"]
    changed = document()
    changed["keys"] = {"active": "k2", "ring": [*changed["keys"]["ring"], {**changed["keys"]["ring"][0], "kid": "k2"}]}
    rotated = compile_table(RoutingTable.parse(changed), first).deployments["D1"]
    promise = select(rotated, RING, NO_FACTS, 1_000).promise
    assert promise is not None
    line = rotated.cookie_line(promise, secure=False)
    payload = line.partition(b"=")[2].partition(b".")[0]
    assert json.loads(decode(payload))["k"] == "k2"


# Frames, histogram, WebSocket frames


def test_frames() -> None:
    messages = [{"type": "a", "n": 1}, {"type": "é"}]
    data = b"".join(map(encode_frame, messages))
    for size in (1, 3, len(data)):
        reader = FrameReader()
        assert [m for at in range(0, len(data), size) for m in reader.feed(data[at : at + size])] == messages


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"type":1}', b"\xff", b"[" * 100_000])
def test_a_broken_frame_is_an_error(body: bytes) -> None:
    with pytest.raises(SpecViolation):
        FrameReader().feed(len(body).to_bytes(4) + body)


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(SpecViolation, match="limit"):
        FrameReader().feed((FRAME_LIMIT + 1).to_bytes(4))


def test_the_histogram() -> None:
    assert len(BOUNDS_MS) == BUCKETS - 1
    assert list(BOUNDS_MS) == sorted(set(BOUNDS_MS))
    for milliseconds in (0.01, 0.127, 0.128, 0.16, 1.0, 7.3, 1000.0, 60_000.0):
        index = bucket(milliseconds / 1000 + 1e-9)
        assert milliseconds < BOUNDS_MS[index]
        assert index == 0 or milliseconds >= BOUNDS_MS[index - 1] - 1e-6
    assert bucket(1e9) == BUCKETS - 1
    counts = [0] * BUCKETS
    for _ in range(99):
        counts[bucket(0.001)] += 1
    counts[bucket(1.0)] += 1
    assert 1 <= quantile_ms(counts, 0.5) <= 1.28
    assert quantile_ms(counts, 0.999) > 1000
    assert quantile_ms([0] * BUCKETS, 0.5) == 0.0


def test_frame_boundaries() -> None:
    frames = [b"\x81\x02hi", b"\x82\x7e\x01\x00" + b"x" * 256, b"\x82\x7f" + (70_000).to_bytes(8) + b"x" * 70_000]
    frames += [b"\x81\x83mask" + b"abc", b"\x89\x00"]
    boundary = FrameBoundary()
    for frame in frames:
        for byte in (frame[:1], frame[1:3], frame[3:-1]):
            if byte:
                boundary.feed(byte)
                assert not boundary.between_frames or len(frame) == 2
        boundary.feed(frame[-1:] if len(frame) > 3 else frame[3:])
        assert boundary.between_frames


def test_the_frame_on_its_way_is_followed_to_its_end_and_no_further() -> None:
    boundary = FrameBoundary()
    boundary.feed(b"\x82\x05ab")
    assert boundary.feed(b"cde\x81\x02hi", one=True) == 3
    assert boundary.between_frames
    assert boundary.feed(b"\x89", one=True) == 1
    assert boundary.feed(b"\x00\x81\x02hi", one=True) == 1, "a frame without a payload ends with its header"
    assert boundary.between_frames


def test_a_worker_is_told_under_a_mask_that_the_client_goes_away() -> None:
    frame = close_away()
    assert frame[:2] == b"\x88\x82"
    assert bytes(a ^ b for a, b in zip(frame[6:], frame[2:4], strict=True)) == (1001).to_bytes(2)
    assert len({close_away()[2:6] for _ in range(8)}) > 1
    boundary = FrameBoundary()
    boundary.feed(frame)
    assert boundary.between_frames
