"""Who asks: what is believed of forwarded fields, and from whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.router.caller import Caller, CallerRules
from greentic.router.forwarded import hops
from greentic.router.trace import is_traceparent
from greentic.spec.errors import SpecViolation

RULES = CallerRules(["10.9.0.0/16", "2001:db8:9::/48"], ["192.0.2.0/24", "fd00::/8"])


def asked(claims: dict[str, str], *, peer: bytes = b"192.0.2.1", secure: bool = False, proven: bool = False) -> Caller:
    via = RULES.of_connection(peer, secure=secure, proven=proven)
    return RULES.of_request(via, {name.encode(): value.encode() for name, value in claims.items()})


@pytest.mark.parametrize(
    ("peer", "proven", "trusted", "proxy"),
    [
        (b"10.9.1.1", False, True, False),
        (b"10.8.1.1", False, False, False),
        (b"10.8.1.1", True, True, False),
        (b"2001:db8:9::1", False, True, False),
        (b"192.0.2.77", False, False, True),
        (b"fd00::1", False, False, True),
        (b"unknown", False, False, False),
    ],
)
def test_a_connection_speaks_for_its_peer(peer: bytes, proven: bool, trusted: bool, proxy: bool) -> None:
    caller = RULES.of_connection(peer, secure=True, proven=proven)
    assert (caller.address, caller.secure, caller.trusted, caller.proxy) == (peer, True, trusted, proxy)


FOR = "x-forwarded-for"
BEHIND_A_PROXY = {
    "one hop": ({FOR: "198.51.100.7"}, b"198.51.100.7", False),
    "a forged hop before it": ({FOR: "10.9.1.1, 198.51.100.7"}, b"198.51.100.7", False),
    "two trusted proxies": ({FOR: "198.51.100.7, 192.0.2.9"}, b"198.51.100.7", False),
    "a trusted caller behind it": ({FOR: "10.9.1.1"}, b"10.9.1.1", True),
    "a trusted caller behind two": ({FOR: "6.6.6.6, 10.9.1.1, 192.0.2.9"}, b"10.9.1.1", True),
    "only proxies": ({FOR: "192.0.2.8, 192.0.2.9"}, b"192.0.2.8", False),
    "a port": ({FOR: "198.51.100.7:4711"}, b"198.51.100.7", False),
    "IPv6 with a port": ({FOR: "[2001:db8:9::7]:4711"}, b"2001:db8:9::7", True),
    "IPv6": ({FOR: "2001:db8:9::7"}, b"2001:db8:9::7", True),
    "IPv4 in IPv6": ({FOR: "::ffff:10.9.1.1"}, b"10.9.1.1", True),
    "an unknown one": ({FOR: "10.9.1.1, unknown"}, b"unknown", False),
    "a hidden one": ({"forwarded": "for=10.9.1.1, for=_hidden"}, b"_hidden", False),
    "rubbish": ({FOR: "10.9.1.1, <script>"}, b"unknown", False),
    "nothing in it": ({FOR: " , "}, b"192.0.2.1", False),
    "Forwarded": ({"forwarded": 'for="[2001:db8:9::7]:1";proto=https;by=x, for=192.0.2.3'}, b"2001:db8:9::7", True),
    "Forwarded in capitals": ({"forwarded": "For=10.9.1.1;Proto=HTTPS"}, b"10.9.1.1", True),
    "Forwarded without for": ({"forwarded": "proto=https"}, b"unknown", False),
    "Forwarded twice for": ({"forwarded": "for=10.9.1.1;for=6.6.6.6"}, b"unknown", False),
    "Forwarded malformed": ({"forwarded": 'for="10.9.1.1'}, b"unknown", False),
    "Forwarded unquoted with a port": ({"forwarded": "for=10.9.1.1:80"}, b"unknown", False),
    "both agree": ({"forwarded": "for=10.9.1.1", FOR: "10.9.1.1"}, b"10.9.1.1", True),
    "both differ": ({"forwarded": "for=10.9.1.1", FOR: "198.51.100.7"}, b"unknown", False),
    "one is longer": ({"forwarded": "for=10.9.1.1", FOR: "6.6.6.6, 10.9.1.1"}, b"unknown", False),
}


@pytest.mark.parametrize("name", BEHIND_A_PROXY)
def test_a_trusted_proxy_speaks_for_the_last_one_that_is_no_proxy(name: str) -> None:
    claims, address, trusted = BEHIND_A_PROXY[name]
    caller = asked(claims)
    assert (caller.address, caller.trusted) == (address, trusted)


def test_the_certificate_of_a_proxy_says_nothing_of_its_clients() -> None:
    assert not asked({FOR: "198.51.100.7"}, proven=True).trusted
    assert asked({}, proven=True).trusted


@pytest.mark.parametrize(
    ("claims", "over_tls", "secure"),
    [
        ({FOR: "1.1.1.1"}, False, False),
        ({FOR: "1.1.1.1"}, True, True),
        ({"x-forwarded-proto": "https"}, False, True),
        ({"x-forwarded-proto": "http"}, True, False),
        ({FOR: "1.1.1.1", "x-forwarded-proto": "https"}, False, True),
        ({FOR: "1.1.1.1", "x-forwarded-proto": "http"}, True, False),
        ({FOR: "1.1.1.1", "x-forwarded-proto": "HTTPS"}, False, True),
        ({FOR: "1.1.1.1", "x-forwarded-proto": "wss"}, True, False),
        ({FOR: "1.1.1.1, 192.0.2.2", "x-forwarded-proto": "https, http"}, False, True),
        ({FOR: "6.6.6.6, 1.1.1.1, 192.0.2.2", "x-forwarded-proto": "https, http"}, False, False),
        ({"x-forwarded-proto": "https, http"}, True, False),
        ({"forwarded": "for=1.1.1.1;proto=https"}, False, True),
        ({"forwarded": "for=1.1.1.1;proto=https, for=192.0.2.2;proto=http"}, False, True),
        ({"forwarded": "for=1.1.1.1;proto=https", "x-forwarded-proto": "http"}, True, False),
        ({"forwarded": "for=1.1.1.1", "x-forwarded-proto": "https"}, False, True),
    ],
)
def test_secure_is_how_the_client_came(claims: dict[str, str], over_tls: bool, secure: bool) -> None:
    assert asked(claims, secure=over_tls).secure is secure


def lines(caller: Caller) -> dict[str, str]:
    found = [line.decode().partition(": ") for line in caller.lines(b"h:1")]
    assert len({name for name, _, _ in found}) == len(found)
    return {name: value for name, _, value in found}


def test_the_worker_is_told_the_whole_way() -> None:
    direct = RULES.of_connection(b"2001:db8::1", secure=True, proven=False)
    assert lines(direct) == {
        "X-Forwarded-For": "2001:db8::1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "h:1",
        "Forwarded": 'for="[2001:db8::1]";host="h:1";proto=https',
    }
    claims = {
        FOR: "6.6.6.6, 1.1.1.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "public.example",
        "x-forwarded-port": "443",
    }
    assert lines(asked(claims)) == {
        "X-Forwarded-For": "6.6.6.6, 1.1.1.1, 192.0.2.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "public.example",
        "X-Forwarded-Port": "443",
        "Forwarded": 'for=6.6.6.6;proto=https, for=1.1.1.1;proto=https, for=192.0.2.1;host="h:1";proto=http',
    }
    told = lines(asked({"forwarded": "for=1.1.1.1;by=_me;proto=https"}))
    assert told["Forwarded"] == 'for=1.1.1.1;by=_me;proto=https, for=192.0.2.1;host="h:1";proto=http'
    assert told["X-Forwarded-For"] == "1.1.1.1, 192.0.2.1"
    broken = lines(asked({"forwarded": 'for="', FOR: "6.6.6.6"}))
    assert broken["Forwarded"] == 'for=unknown, for=192.0.2.1;host="h:1";proto=http'
    assert broken["X-Forwarded-For"] == "unknown, 192.0.2.1"


@given(st.dictionaries(st.sampled_from([b"forwarded", FOR.encode(), b"x-forwarded-proto"]), st.binary(max_size=60)))
def test_no_claim_raises_and_what_is_written_on_can_be_read(claims: dict[bytes, bytes]) -> None:
    via = RULES.of_connection(b"192.0.2.1", secure=False, proven=False)
    caller = RULES.of_request(via, claims)
    hops(claims)
    for line in caller.lines(b"h"):
        if line.startswith(b"X-Forwarded-For: "):
            again = hops({FOR.encode(): line.partition(b": ")[2]})
            assert again[-1].node == b"192.0.2.1"


@pytest.mark.parametrize(
    "options",
    [
        {"trusted_callers": "10.0.0.0/8"},
        {"trusted_proxies": [1]},
        {"trusted_callers": ["x"]},
        {"trusted_callers": None},
    ],
)
def test_networks_are_parsed_strictly(options: dict[str, Any]) -> None:
    with pytest.raises(SpecViolation) as caught:
        CallerRules.parse(options)
    assert caught.value.rule == "caller-networks"


def test_equal_rules_are_equal() -> None:
    options = {"trusted_callers": ["10.0.0.0/8"]}
    assert CallerRules.parse(options) == CallerRules.parse(options) != CallerRules()
    assert hash(CallerRules.parse(options)) == hash(CallerRules.parse(options))


PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (PARENT, True),
        (b"00-" + PARENT[3:-2] + b"ff", True),
        (b"01" + PARENT[2:], True),
        (b"01" + PARENT[2:] + b"-more", True),
        (PARENT + b"-more", False),
        (b"01" + PARENT[2:] + b"more", False),
        (b"ff" + PARENT[2:], False),
        (PARENT.upper(), False),
        (PARENT[:-1], False),
        (b"00-" + b"0" * 32 + PARENT[35:], False),
        (PARENT[:36] + b"0" * 16 + b"-01", False),
        (b"", False),
        (b"x" * 55, False),
    ],
)
def test_traceparent(value: bytes, good: bool) -> None:
    assert is_traceparent(value) is good
