"""What must hold of the router for every input."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from greentic.router.compiled import compile_table
from greentic.router.cookie import CookieMint
from greentic.router.frames import FrameReader, encode_frame
from greentic.router.keys import KeyRing, SigningKey, decode, encode
from greentic.router.matching import AmbiguousPath, Matcher, resolve
from greentic.router.pins import Pin
from greentic.router.selection import NO_FACTS, Facts, select
from greentic.router.table import SLOTS, RoutingTable
from greentic.router.websocket import FrameBoundary
from greentic.spec.errors import GreenticError

RING = KeyRing((SigningKey("k1", bytes(range(32))),))


@st.composite
def weights(draw: st.DrawFn) -> list[int]:
    """2 to 16 weights that total 10,000, with small and awkward ones as likely as even ones."""
    count = draw(st.integers(2, 16))
    # Round shares meet their deadlines exactly, where an earliest deadline first that is off by one would miss.
    unit = draw(st.sampled_from([1, 1, 100, 250, 500, 625]))
    cuts = sorted(
        draw(st.lists(st.one_of(st.integers(0, SLOTS), st.integers(0, 50)), min_size=count - 1, max_size=count - 1))
    )
    edges = [0, *(cut // unit * unit for cut in cuts), SLOTS]
    return [after - before for before, after in itertools.pairwise(edges)]


def mint() -> CookieMint:
    return CookieMint(RING, env_id="e", tenant="t", deployment_id="d", generation=1, revision_ids=("r1", "r2"))


@given(st.binary(max_size=400))
def test_bytes_are_never_a_cookie(value: bytes) -> None:
    assert mint().read(value) is None


@given(st.integers(0, 1), st.integers(0, 2**40), st.integers(0, 9_999), st.data())
def test_a_changed_cookie_is_never_a_cookie(index: int, expires: int, slot: int, data: st.DataObject) -> None:
    value = mint().issue(Pin(("r1", "r2")[index], 1, expires, slot))
    pin = mint().read(value)
    assert pin is not None
    assert (pin.revision_id, pin.expires, pin.slot) == (("r1", "r2")[index], expires, slot)
    at = data.draw(st.integers(0, len(value) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda candidate: candidate != value[at]))
    forged = value[:at] + bytes([byte]) + value[at + 1 :]
    try:
        same = all(decode(a) == decode(b) for a, b in zip(forged.split(b"."), value.split(b"."), strict=True))
    except ValueError:
        same = False
    # The last letter of base64 has spare bits: another spelling of the same signature is the same signature.
    assert mint().read(forged) is None or (same and forged.split(b".")[0] == value.split(b".")[0])


@given(
    st.dictionaries(
        st.sampled_from("etdrgxs"), st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.none()))
    )
)
def test_a_strange_payload_with_a_good_signature_never_raises(facts: dict[str, Any]) -> None:
    payload = encode(json.dumps({"e": "e", "t": "t", "d": "d", **facts}).encode())
    mint().read(payload + b"." + encode(RING.active.sign(payload)))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=12,
)


def good_table() -> dict[str, Any]:
    secret = base64.b64encode(bytes(32)).decode()
    return {
        "version": 1, "env_id": "e", "keys": {"active": "k", "ring": [{"kid": "k", "secret": secret}]},
        "deployments": [{
            "deployment_id": "d", "bundle_id": "b", "customer_id": "c", "tenant": "t", "team": "m", "hosts": ["h"],
            "path_prefixes": ["/a"], "generation": 1, "pin_seconds": 9,
            "revisions": [{"revision_id": "r", "address": "h:1", "state": "ready", "since": 0, "name": "n"}],
            "slots": [[10_000, 0]],
        }],
        "options": {"stamp_revision": True, "limits": {"max_headers": 9}},
    }  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, item in inner for place in places(item, (*path, key))]


PLACES = places(good_table())


@settings(max_examples=300)
@given(st.sampled_from(PLACES), JSON)
def test_a_table_with_anything_anywhere_parses_or_is_a_typed_refusal(place: tuple[Any, ...], value: Any) -> None:
    document: Any = good_table()
    if not place:
        document = value
    else:
        target = document
        for key in place[:-1]:
            target = target[key]
        target[place[-1]] = value
    with contextlib.suppress(GreenticError):
        compile_table(RoutingTable.parse(document))


@settings(max_examples=30, deadline=None)
@given(weights(), st.integers(1, 10_000))
def test_selection_totals_are_the_shares(shares: list[int], visitors: int) -> None:
    document = good_table()
    (row,) = document["deployments"]
    row["revisions"] = [
        {"revision_id": f"r{index}", "address": "h:1", "state": "ready", "since": 0, "name": ""}
        for index in range(len(shares))
    ]
    row["slots"] = [[count, index] for index, count in enumerate(shares) if count]
    deployment = compile_table(RoutingTable.parse(document)).deployments["d"]
    counts: Counter[int] = Counter()
    cookie = b""
    for _ in range(visitors):
        decision = select(deployment, RING, NO_FACTS, 1000)
        counts[decision.revision.index] += 1
        assert decision.promise is not None
        cookie = deployment.mint.issue(decision.promise)
    for index, share in enumerate(shares):
        assert visitors * share // SLOTS <= counts[index] <= -(-visitors * share // SLOTS)
    again = select(deployment, RING, Facts(revision_cookie=cookie), 1000)
    assert again.revision is decision.revision or again.reason != "cookie"


@given(st.lists(JSON.map(lambda value: {"type": "t", "value": value}), max_size=5), st.integers(1, 50))
def test_frames_survive_any_cut(messages: list[dict[str, Any]], size: int) -> None:
    data = b"".join(map(encode_frame, messages))
    reader = FrameReader()
    read = [message for at in range(0, len(data), size) for message in reader.feed(data[at : at + size])]
    assert json.dumps(read) == json.dumps(messages)


@given(st.binary(max_size=200))
def test_a_stream_of_bytes_is_messages_or_a_typed_refusal(data: bytes) -> None:
    with contextlib.suppress(GreenticError):
        FrameReader().feed(data)


SEGMENTS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "%61", "%2e%2e", "a%2Fb", "c"]), max_size=6)


@given(SEGMENTS)
def test_a_path_matches_the_same_however_it_is_read(segments: list[str]) -> None:
    matcher = Matcher([("root", (), ()), ("a", (), ("/a",)), ("ab", (), ("/a/b",)), ("c", (), ("/c",))])
    path = "/" + "/".join(segments)
    try:
        route = matcher.match(b"", path.encode())
    except AmbiguousPath:
        return
    assert route is matcher.match(b"", resolve(path.encode()).replace(b"%", b"%25"))


@given(
    st.lists(st.tuples(st.integers(0, 70_000), st.booleans()), max_size=4), st.lists(st.integers(1, 40_000), min_size=1)
)
def test_frame_boundaries_survive_any_cut(frames: list[tuple[int, bool]], sizes: list[int]) -> None:
    data = b""
    ends = {0}
    for length, masked in frames:
        mark = 0x80 if masked else 0
        if length < 126:
            data += bytes([0x82, mark | length])
        elif length < 65536:
            data += bytes([0x82, mark | 126]) + length.to_bytes(2)
        else:
            data += bytes([0x82, mark | 127]) + length.to_bytes(8)
        data += (b"mask" if masked else b"") + b"\x88" * length
        ends.add(len(data))
    boundary = FrameBoundary()
    at = 0
    turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        turn += 1
        boundary.feed(data[at : at + size])
        at = min(at + size, len(data))
        assert boundary.between_frames == (at in ends)
