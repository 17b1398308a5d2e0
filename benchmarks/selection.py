"""What one decision of the router costs: `python -m benchmarks.selection [--seconds 1] [--json FILE]`.

Each branch of selection by itself, from a request's facts to the revision, on a deployment with sixteen revisions:
microseconds per decision, the median of rounds that are interleaved, so that a busy machine slows all alike. The aim is
below 5 µs in each. What follows a decision is told apart: the facts of a head, and the cookie of a new promise, which
is made once per visitor and not per request. `first` branches see a cookie or token that this router has not verified
before, the others one that it has.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greentic.router import preview, trust
from greentic.router.compiled import CompiledDeployment, compile_table
from greentic.router.heads import facts_of
from greentic.router.keys import KeyRing, SigningKey, Verified
from greentic.router.memory_pins import MemoryPins
from greentic.router.pins import Pin
from greentic.router.request_head import RequestHead
from greentic.router.selection import NO_FACTS, Facts, in_session, select
from greentic.router.table import RoutingTable

AIM_US = 5.0
ROUNDS = 7
SECRET = os.urandom(32)
RING = KeyRing((SigningKey("k1", SECRET),))
NOW = time.time()
END = int(NOW) + 3600
Step = Callable[[int], object]


def deployment() -> CompiledDeployment:
    """Sixteen revisions, 1 % each and the rest to the first."""
    rows = [
        {"revision_id": f"R{index}", "address": f"127.0.0.1:{1000 + index}", "state": "ready", "since": 1, "name": ""}
        for index in range(16)
    ]
    table = {
        "version": 1,
        "env_id": "bench",
        "keys": {"active": "k1", "ring": [{"kid": "k1", "secret": base64.b64encode(SECRET).decode()}]},
        "deployments": [
            {
                **{"deployment_id": "01J0000000000000000000DEPA", "bundle_id": "web", "customer_id": "acme"},
                **{"tenant": "acme", "team": "ops", "hosts": [], "path_prefixes": [], "generation": 7},
                **{"pin_seconds": 3600, "revisions": rows},
                "slots": [[8500, 0], *([100, index] for index in range(1, 16))],
            }
        ],
    }
    (compiled,) = compile_table(RoutingTable.parse(table)).deployments.values()
    return compiled


def head(cookie: bytes | None, said: dict[bytes, bytes | None] | None, compiled: CompiledDeployment) -> RequestHead:
    """As much of a head as `facts_of` reads."""
    made = RequestHead()
    made.own_cookies = {} if cookie is None else {compiled.cookie_name: cookie}
    made.said = said
    made.preview_token = None
    return made


def branches() -> dict[str, Step]:
    """What is measured: one call is one decision (or what is told beside it)."""
    one = deployment()
    cookie = one.mint.issue(Pin("R3", 7, END, 42))
    ended = one.mint.issue(Pin("R3", 7, 1, 42))
    # More than are remembered, so that each is verified anew.
    fresh = [one.mint.issue(Pin("R3", 7, END + number, 42)) for number in range(20_000)]
    older = [one.mint.issue(Pin("R3", 6, END + number, 42)) for number in range(20_000)]
    token = preview.mint(RING, one.deployment_id, "R5", END).encode()
    vouched = trust.mint(RING, "bench", None, END).encode()
    known: Verified[Any] = Verified()
    pins = MemoryPins()
    hint = one.digest(b"ssession")
    for number in range(4000):
        pins.put(one.scope, b"%016d" % number, Pin("R1", 7, END), one.open, NOW)
    pins.put(one.scope, hint, Pin("R9", 7, END), one.open, NOW)

    def decides(facts: Facts) -> Step:
        return lambda _: select(one, RING, facts, NOW)

    def session(_: int) -> object:
        decision = select(one, RING, Facts(key=b"ssession", session=b"session"), NOW)
        pin = pins.look(one.scope, one.digest(b"ssession"), one.admissible(NOW), NOW)
        return in_session(one, decision, pin, NOW)

    plain, keyed = head(cookie, None, one), head(None, {b"x-greentic-session": b"session"}, one)
    promise = Pin("R3", 7, END, 42)
    return {
        "preview token": decides(Facts(preview_token=token)),
        "trusted header": decides(Facts(revision=b"R5")),
        "trust token": lambda _: trust.proves(RING, "bench", one.deployment_id, vouched, NOW, known),
        "cookie": decides(Facts(revision_cookie=cookie)),
        "cookie, first": lambda number: select(one, RING, Facts(revision_cookie=fresh[number % 20_000]), NOW),
        "older cookie, first": lambda number: select(one, RING, Facts(revision_cookie=older[number % 20_000]), NOW),
        "forged cookie": decides(Facts(revision_cookie=cookie[:-2] + b"xx")),
        "session pin": session,
        "key": decides(Facts(key=b"uann@example.test")),
        "slot of a cookie": decides(Facts(revision_cookie=ended)),
        "sequence": decides(NO_FACTS),
        "(facts of a cookie)": lambda _: facts_of(plain, one),
        "(facts of a session)": lambda _: facts_of(keyed, one),
        "(cookie of a promise)": lambda _: one.cookie_line(promise, secure=False),
    }


def measure(seconds: float) -> dict[str, float]:
    """Microseconds per call of each branch."""
    steps = branches()
    samples: dict[str, list[float]] = {name: [] for name in steps}
    share = seconds / ROUNDS / len(steps)
    for _ in range(ROUNDS):
        for name, step in steps.items():
            calls = 0
            began = time.process_time()
            while (spent := time.process_time() - began) < share:
                for number in range(calls, calls + 500):
                    step(number)
                calls += 500
            samples[name].append(spent / calls * 1e6)
    return {name: statistics.median(found) for name, found in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="What one decision of the router costs.")
    parser.add_argument("--seconds", type=float, default=4.0, help="in all")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    figures = measure(options.seconds)
    for name, micros in figures.items():
        verdict = "" if name.startswith("(") else "  ok" if micros < AIM_US else f"  above {AIM_US:g}"
        print(f"{name:24} {micros:7.2f} µs{verdict}")
    print(f"processor time, median of {ROUNDS} rounds, load average {load:.1f}")
    if options.json is not None:
        document = {"microseconds": figures, "aim": AIM_US, "load_average": load}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
