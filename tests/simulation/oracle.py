"""What must hold, judged from the record alone.

The rules are written down here a second time and share no code with the product: which pins a move keeps, who owns a
slot, who may be reached. Each decision of a router is judged in the moment in which it is made, by the state of the
record that the router's table was made of.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from greentic.spec.environment import Environment
from greentic.spec.traffic import TrafficSplit

if TYPE_CHECKING:
    from tests.simulation.world import SimGateway, World

    from greentic.router.forwarding import Exchange
    from greentic.router.selection import Decision

SLOTS = 10_000
_FAILURES = (
    "drained",
    "router-stopped",
    "worker-unreachable",
    "worker-closed",
    "response-truncated",
    "connect-timeout",
)
"""How a request may fail when its worker ends."""
_LATELY = 10.0
"""Seconds in which a worker that ended is back, and a router that was frozen meanwhile has seen it."""


class Broken(AssertionError):
    """Something that must hold does not."""


def must(holds: object, what: str) -> None:
    """Broken unless it `holds`."""
    if not holds:
        raise Broken(what)


@dataclass(frozen=True)
class Source:
    """What a table was made of: the generation of the record, what the data plane added to it, and the key ring."""

    generation: int
    draining: frozenset[str]
    ended: frozenset[str]
    addresses: frozenset[str]
    keys: frozenset[str]


@dataclass
class Dial:
    """One deployment at one generation of the record, as the rules have it."""

    generation: int = 0
    newest: int = -1
    """As `generation`, but -1 before the first split."""
    active: bool = True
    weights: dict[str, int] = field(default_factory=dict)
    owners: tuple[tuple[int, str], ...] = ()
    """The runs of the slot table."""
    since: dict[str, int] = field(default_factory=dict)
    """Revisions with a share: the lowest generation of pins that hold."""
    until: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Revisions whose pins hold until a moment (unix seconds), and the lowest generation of those."""
    lifecycles: dict[str, str] = field(default_factory=dict)
    pin_seconds: int = 3600

    def owner(self, slot: int) -> str | None:
        """Whose slot it is."""
        for count, revision_id in self.owners:
            if slot < count:
                return revision_id
            slot -= count
        return None

    def holds(self, revision_id: str, generation: int, expires: int, now: float) -> bool:
        """Whether a pin is a promise that must be kept."""
        if expires <= now:
            return False
        shared = self.weights.get(revision_id, 0) > 0 and generation >= self.since[revision_id]
        # A router counts whole seconds, in the visitor's favour.
        until, lowest = self.until.get(revision_id, (0.0, 0))
        return shared or (now < math.ceil(until) and generation >= lowest)


class Oracle:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sources: list[Source] = []
        self._dials: dict[int, dict[str, Dial]] = {0: {}}
        self._tables: dict[tuple[str, int], tuple[tuple[int, str], ...]] = {}
        self._draws: dict[int, tuple[Any, list[int], int]] = {}
        self._session_pins: dict[tuple[int, bytes], tuple[str, int, int]] = {}
        self._splits: dict[tuple[str, int], tuple[tuple[int, str], ...]] = {}
        self._kids: dict[str, int] = {}
        """Keys in the order in which they came."""
        self._keeping: list[Any] = []
        """Objects whose ids are keys here."""
        self.issued: dict[bytes, dict[str, Any]] = {}
        """Every cookie that a user got, and what it says."""
        self._over: dict[bytes, int] = {}
        """Cookies whose promise has ended, and by which generation of the record."""
        self.slot_secret = b""
        self.floor: dict[str, int] = {}
        """By deployment: the generation that a receipt has named."""

    def source(self, source: Source) -> int:
        """A number for what a table is made of."""
        self._sources.append(source)
        for kid in sorted(source.keys - set(self._kids)):
            self._kids[kid] = len(self._kids)
        return len(self._sources) - 1

    # The record

    def committed(self, generation: int, before: Environment | None, after: Environment, now: float) -> None:
        """The record has changed: work out what follows by the rules."""
        old_dials = self._dials[generation - 1]
        dials: dict[str, Dial] = {}
        for deployment in after.bundles:
            name = deployment.deployment_id
            old = old_dials.get(name, Dial())
            split = after.split(name)
            lifecycles = {one.revision_id: str(one.lifecycle) for one in after.revisions_of(name)}
            dial = Dial(
                generation=split.generation if split is not None else deployment.traffic_generation or 0,
                active=str(deployment.status) == "active",
                lifecycles=lifecycles,
                pin_seconds=after.host_config.pin_seconds,
            )
            if split is not None or deployment.traffic_generation is not None:
                dial.newest = dial.generation
            if split is not None:
                dial.weights = {one.revision_id: one.weight_bps for one in split.entries if one.weight_bps}
                dial.owners = tuple((count, split.entries[index].revision_id) for count, index in split.slots)
                moved = before is None or before.split(name) is None or old.generation != split.generation
                if moved:
                    self._move(old if before is not None and before.split(name) is not None else None, dial, split, now)
                    self._minimal(old, dial, split)
                    self._splits[name, split.generation] = dial.owners
                else:
                    dial.since, dial.until = dict(old.since), dict(old.until)
                for gone in [one for one in dial.until if lifecycles[one] not in ("ready", "draining")]:
                    del dial.until[gone]
            dials[name] = dial
        self._dials[generation] = dials

    @staticmethod
    def _move(old: Dial | None, new: Dial, split: TrafficSplit, now: float) -> None:
        """Which pins a move of the dial keeps, by the words of whoever moved it."""
        mode = None if split.pins is None else str(split.pins.mode)
        now = datetime.fromisoformat(split.updated_at).timestamp()
        for name in new.weights:
            carried = old is not None and name in old.weights and mode in (None, "honour")
            new.since[name] = old.since[name] if carried and old is not None else new.generation
        if old is None or mode == "evict":
            return
        for name in {*old.weights, *old.until}:
            promised, lowest = old.until.get(name, (0.0, 0))
            running, had = promised > now, name in old.weights
            # Whoever is promised something holds a pin now: what has ended stays ended.
            holding = [*([lowest] if running else []), *([old.since[name]] if had else [])]
            if mode == "grace" and split.pins is not None and split.pins.grace_seconds is not None:
                end = now + split.pins.grace_seconds
                promised, lowest = (end if had else min(promised, end)), min(holding, default=0)
            elif mode == "honour" and had and name not in new.weights:
                promised, lowest = max(promised, now + new.pin_seconds), min(holding)
            if promised > now and new.lifecycles.get(name) in ("ready", "draining"):
                new.until[name] = promised, lowest

    def _minimal(self, old: Dial, new: Dial, split: TrafficSplit) -> None:
        """The table has the shares asked for, and a move changes as few slots as the shares allow."""
        held: dict[str, int] = {}
        for count, owner in new.owners:
            held[owner] = held.get(owner, 0) + count
        must(held == new.weights, f"the table of generation {split.generation} has other shares than the split")
        if split.restored_generation is not None:
            known = self._splits[split.deployment_id, split.restored_generation]
            must(known == new.owners, f"a rollback to generation {split.restored_generation} gave another table")
        if not old.owners or split.restored_generation is not None:
            return
        least = sum(max(0, weight - old.weights.get(name, 0)) for name, weight in new.weights.items())
        before = [owner for count, owner in old.owners for _ in range(count)]
        after = [owner for count, owner in new.owners for _ in range(count)]
        moved = sum(one != other for one, other in zip(before, after, strict=True))
        must(moved == least, f"generation {split.generation} moved {moved} slots where {least} are enough")

    def dial(self, source: int, deployment_id: str) -> Dial:
        """A deployment as a table made of that source must have it."""
        return self._dials[self._sources[source].generation][deployment_id]

    # Routers

    def configured(self, gateway: SimGateway) -> None:
        """A router took a table: at equal generations all routers have the same owners of slots."""
        assert gateway.table is not None
        for name, deployment in gateway.table.deployments.items():
            if deployment.row.slots:
                runs: list[tuple[int, str]] = []
                for count, index in deployment.row.slots:
                    owner = deployment.revisions[index].revision_id
                    if runs and runs[-1][1] == owner:
                        count += runs.pop()[0]
                    runs.append((count, owner))
                known = self._tables.setdefault((name, deployment.generation), tuple(runs))
                must(known == tuple(runs), f"two tables of {name} at generation {deployment.generation}")
                must(
                    len(deployment.slots) == SLOTS
                    and all(deployment.revisions[deployment.slots[s]].revision_id == _at(runs, s) for s in _PROBES),
                    "a compiled table has other owners than its document",
                )

    def claims(self, gateway: SimGateway, readiness: Any) -> None:
        """A router says whether it is ready: never past its lease, never with an older table than it knows of."""
        if readiness.ready:
            at, seconds, newest = gateway.renewed
            now = self._world.loop.time()
            must(newest < 0 or now - at <= seconds, "a router claims to be ready past its lease")
            must(gateway.table is not None, "a router claims to be ready without a table")
            assert gateway.table is not None
            must(gateway.table.source.version >= newest, "a router claims to be ready with an old table")

    def known_as_ready(self, gateway: SimGateway | None) -> None:
        """The runtime tells others that this router is ready (None: its process is gone)."""
        if gateway is not None:
            at, seconds, _ = gateway.renewed
            must(self._world.loop.time() - at <= seconds, "a router is told to be ready past its lease")

    def received(self, deployment_id: str, generation: int) -> None:
        """A receipt: from now on nothing is routed by an older generation."""
        self.floor[deployment_id] = max(self.floor.get(deployment_id, 0), generation)
        for gateway in self._world.gateways:
            if gateway.table is not None:
                served = gateway.table.deployments[deployment_id].generation
                must(
                    served >= generation,
                    f"a receipt for generation {generation}, but {gateway.process.name} serves {served}",  # type: ignore[union-attr]
                )

    def drawn(self, sequence: Any, found: tuple[int, int] | None) -> None:
        """A keyless visitor: each revision's count is within one of its share, after every visitor."""
        if found is None:
            return
        entry = self._draws.get(id(sequence))
        if entry is None:
            entry = self._draws[id(sequence)] = (sequence, [0] * len(sequence._slots), 0)
        _, counts, drawn = entry
        counts[found[0]] += 1
        drawn += 1
        self._draws[id(sequence)] = (sequence, counts, drawn)
        shares = [slots.count for slots in sequence._slots]
        total = sum(shares)
        for count, share in zip(counts, shares, strict=True):
            must(abs(count * total - drawn * share) < total, f"{counts} after {drawn} visitors at shares {shares}")

    # Requests

    def decided(self, exchange: Exchange, decision: Decision) -> None:
        """A router has chosen a revision for a request and is about to send it there."""
        world = self._world
        gateway: Any = exchange._gateway
        deployment = exchange.deployment
        assert deployment is not None
        if not gateway.process.alive:
            return
        assert exchange.facts is not None
        name, chosen = deployment.deployment_id, decision.revision.revision_id
        now = exchange.selected_at
        world.counts[f"reason {decision.reason}"] += 1
        world.did(f"{gateway.process.name} gives {name[-2:]} to {chosen[-2:]} ({decision.reason}, {gateway.source})")
        must(gateway.table.deployments.get(name) is deployment, "a decision by a table that is not served any more")
        must(
            deployment.generation >= self.floor.get(name, 0),
            f"routed by generation {deployment.generation} after a receipt for {self.floor.get(name, 0)}",
        )
        must(chosen not in world.dismissed, f"{chosen[-2:]} was chosen although its worker was ended")
        source = self._sources[gateway.source]
        dial = self._dials[source.generation][name]
        must(deployment.generation == dial.generation, "the table has another generation than its record")
        listed = self._listed(source, dial)
        must(chosen in listed, f"{chosen[-2:]} is {dial.lifecycles.get(chosen)} and cannot be reached")
        draining = {one for one in listed if dial.lifecycles[one] == "draining" or one in source.draining}
        expected = self._expected(source, dial, listed, draining, name, exchange.facts, now)
        self._session(gateway, deployment, decision, dial, listed, exchange, expected)

    def ended(self, exchange: Exchange) -> None:
        """A request is over: when it failed, there is a reason for it outside of the router."""
        kind, world = exchange.error, self._world
        gateway: Any = exchange._gateway
        if kind is None or kind == "client-closed" or not gateway.process.alive:
            return
        world.counts[f"error {kind}"] += 1
        world.did(f"{gateway.process.name}: {kind} of {(exchange.revision_id or '')[-2:]}")
        if kind in ("no-revision", "revision-not-served"):
            self._nobody(exchange, kind)
            return
        world.did(f"it began at {exchange.began:.4f} and was selected at {exchange.selected_at - 1_800_000_000:.4f}")
        must(kind in _FAILURES, f"a request failed: {kind}")
        revision_id = exchange.revision_id
        assert revision_id is not None
        environment = world.record.environment
        assert environment is not None
        revision = environment.revision(revision_id)
        lifecycle = "gone" if revision is None else str(revision.lifecycle)
        if kind == "drained":
            must(lifecycle != "ready", "a request to a ready revision was cut")
        elif kind == "router-stopped":
            must(gateway.stopping, "a router that does not stop cut a request")
        elif lifecycle not in ("archived", "gone"):
            must(revision_id not in world.dismissed, f"{kind}: the worker was ended under a request")
            lately = world.loop.time() - world.crashed.get(revision_id, float("-inf"))
            must(lately < _LATELY, f"{kind}, although the worker of {revision_id[-2:]} is well")

    def _nobody(self, exchange: Exchange, kind: str) -> None:
        """A router found no revision for a request: there must be none."""
        gateway: Any = exchange._gateway
        deployment = exchange.deployment
        assert deployment is not None
        assert exchange.facts is not None
        source = self._sources[gateway.source]
        name = deployment.deployment_id
        dial = self._dials[source.generation][name]
        listed = self._listed(source, dial)
        draining = {one for one in listed if dial.lifecycles[one] == "draining" or one in source.draining}
        _, found = self._expected(source, dial, listed, draining, name, exchange.facts, exchange.selected_at)
        must(not found, f"{kind}, although {sorted(one[-2:] for one in found)} may be chosen")

    @staticmethod
    def _listed(source: Source, dial: Dial) -> set[str]:
        return {
            one
            for one, lifecycle in dial.lifecycles.items()
            if dial.active
            and lifecycle in ("ready", "draining")
            and one in source.addresses
            and one not in source.ended
        }

    def _expected(
        self, source: Source, dial: Dial, listed: set[str], draining: set[str], name: str, facts: Any, now: float
    ) -> tuple[str, frozenset[str]]:
        """(reason, revisions that may be chosen), but for a session's pin."""
        whole = dial.active and all(one in listed for one in dial.weights)
        if facts.revision is not None:
            return "header", frozenset(
                one for one in listed if facts.revision.decode() in (one, f"v{self._sequence(one)}")
            )
        slot = -1
        said = self.issued.get(facts.revision_cookie) if facts.revision_cookie is not None else None
        if said is not None:
            # Keys come one by one and leave in that order: a cookie's may be gone, but never be still to come.
            newest = max(self._kids[kid] for kid in source.keys)
            must(self._kids[said["k"]] <= newest, f"a cookie is signed with {said['k']}, which this router has not got")
        if said is not None and said["d"] == name and said["k"] in source.keys:
            slot = said["s"]
            held = dial.holds(said["r"], said["g"], said["x"], now)
            if held:
                over = self._over.get(facts.revision_cookie, source.generation)
                must(source.generation <= over, f"the ended promise {said} came back")
            elif said["g"] <= dial.newest:  # a router that lags behind does not know of it yet
                self._over.setdefault(facts.revision_cookie, source.generation)
            if held and said["r"] in listed:
                return "cookie", frozenset((said["r"],))
        if whole and dial.owners:
            if facts.key is not None:
                owner = dial.owner(self.slot_of(name, facts.key))
                if owner is not None and owner not in draining:
                    return "key", frozenset((owner,))
            if slot >= 0:
                owner = dial.owner(slot)
                if owner is not None and owner not in draining:
                    return "slot", frozenset((owner,))
            return "sequence", frozenset(one for one in dial.weights if one not in draining)
        return "sequence", frozenset()

    def _session(
        self,
        gateway: Any,
        deployment: Any,
        decision: Decision,
        dial: Dial,
        listed: set[str],
        exchange: Exchange,
        expected: tuple[str, frozenset[str]],
    ) -> None:
        """The decision is the expected one, unless the session's pin went first, which it must when there is one."""
        assert exchange.facts is not None
        chosen, session = decision.revision.revision_id, exchange.facts.session
        world = self._world
        now = world.wall()
        shared = world.shared_pins is not None
        key = (0 if shared else id(gateway), b"%b %b" % (deployment.deployment_id.encode(), session or b""))
        if decision.reason == "session":
            pin = decision.session
            assert pin is not None
            must(session is not None and expected[0] in ("key", "slot", "sequence"), "a session's pin went first")
            must(dial.holds(pin.revision_id, pin.generation, pin.expires, now), f"the session's pin {pin} has ended")
            must(chosen == pin.revision_id, "not the pin's revision")
            if not shared:
                self._keeping.append(gateway)
            self._session_pins[key] = (pin.revision_id, pin.generation, pin.expires)
            return
        must(
            decision.reason == expected[0] and chosen in expected[1],
            f"{chosen[-2:]} by {decision.reason}, expected {expected[0]} {sorted(one[-2:] for one in expected[1])}",
        )
        if session is None or decision.promise is None or (shared and world.pin_failures):
            return
        known = self._session_pins.get(key)
        if known is None:
            return
        if known[0] not in listed or not dial.holds(*known, now):
            del self._session_pins[key]  # it gives way to a new one
        elif chosen != known[0]:
            # A store that is waited for was asked a moment before.
            must(shared, f"the session's pin {known} was not kept")

    def slot_of(self, deployment_id: str, key: bytes) -> int:
        """Where a key lands: BLAKE2b keyed with the environment's secret."""
        state = hashlib.blake2b(deployment_id.encode() + b"\0" + key, key=self.slot_secret, digest_size=16)
        return int.from_bytes(state.digest()[:8]) % SLOTS

    def cookie(self, value: bytes) -> None:
        """A user got a cookie: what it says."""
        payload = value.partition(b".")[0]
        said: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        self.issued[value] = said

    def _sequence(self, revision_id: str) -> int:
        environment = self._world.record.environment
        assert environment is not None
        revision = environment.revision(revision_id)
        return 0 if revision is None else revision.sequence


_PROBES = (0, 1, 99, 100, 3_333, 4_999, 5_000, 9_899, 9_998, 9_999)


def _at(runs: list[tuple[int, str]], slot: int) -> str | None:
    for count, owner in runs:
        if slot < count:
            return owner
        slot -= count
    return None
