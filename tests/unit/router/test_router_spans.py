"""Which requests have a span, what the worker is told, and that nothing grows or waits when spans cannot be sent."""

from __future__ import annotations

import re
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greentic.router import spans as module
from greentic.router.ended import Ended
from greentic.router.spans import PENDING, Context, Fields, Origin, Span, SpanCounts, Spans, SpanSettings, continued
from greentic.router.trace import is_traceparent
from greentic.spec.errors import SpecViolation

HEX = "0123456789abcdef"
TRACES = st.text(HEX, min_size=32, max_size=32).filter(lambda text: set(text) != {"0"})
PARENTS = st.text(HEX, min_size=16, max_size=16).filter(lambda text: set(text) != {"0"})


class Memory:
    """An exporter that keeps what it gets, and waits while `held`."""

    def __init__(self) -> None:
        self.got: list[Span] = []
        self.busy = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.closed = False
        self.fails: Exception | None = None

    def export(self, spans: Sequence[Fields]) -> int:
        self.busy.set()
        self.free.wait()
        if self.fails is not None:
            raise self.fails
        self.got += map(Span._make, spans)
        return 0

    def close(self) -> None:
        self.closed = True
        self.free.set()


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    made = Memory()
    point = types.SimpleNamespace(load=lambda: lambda settings, origin: made)
    monkeypatch.setattr(module, "entry_points", lambda group, name: [point])
    return made


@pytest.fixture
def opened(memory: Memory) -> Iterator[Callable[..., Spans]]:
    made: list[Spans] = []

    def open_(ratio: float = 1.0, counts: SpanCounts | None = None) -> Spans:
        made.append(Spans(SpanSettings("kind", {}, ratio), Origin("local", 7), counts))
        return made[-1]

    yield open_
    memory.free.set()
    for one in made:
        one.close()


def ended(path: bytes = b"/a") -> Ended:
    return Ended(
        b"id-1",
        1000.5,
        1000.1,
        0.5,
        0.25,
        200,
        None,
        b"127.0.0.1",
        b"GET",
        b"h",
        path,
        None,
        None,
        None,
        None,
        0,
        9,
        "",
    )


def test_a_caller_decides_for_its_trace(opened: Callable[..., Spans]) -> None:
    never = opened(0.0)

    @given(TRACES, PARENTS, st.text(HEX, min_size=2, max_size=2))
    def follows(trace: str, parent: str, flags: str) -> None:
        given_ = f"00-{trace}-{parent}-{flags}".encode()
        assert is_traceparent(given_)
        found = never.begin(given_)
        if not int(flags, 16) & 1:
            assert found is None
            return
        assert found is not None
        assert (found.trace_id, found.parent_id) == (trace, parent)
        assert found.span_id != parent
        assert is_traceparent(found.traceparent)
        assert found.traceparent == f"00-{trace}-{found.span_id}-01".encode()

    follows()
    assert never.begin(b"") is None
    assert never.begin(b"cc-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01-more") is not None, "a later version's first part"


def test_a_share_of_the_traces_that_begin_here(opened: Callable[..., Spans]) -> None:
    some = opened(0.3)
    found = [one for one in (some.begin(b"") for _ in range(20_000)) if one is not None]
    assert 5_600 < len(found) < 6_400
    assert all(is_traceparent(one.traceparent) and not one.parent_id for one in found)
    assert len({one.trace_id for one in found}) == len({one.span_id for one in found}) == len(found)
    # By the lower half of the id, as OpenTelemetry does: whoever uses the same ratio decides alike.
    assert all(int(one.trace_id[16:], 16) < 0.3 * 2**64 for one in found)
    assert all(opened(1.0).begin(b"") for _ in range(100))


def test_the_workers_parent_is_the_routers_span() -> None:
    context = Context("a" * 32, "b" * 16, "c" * 16)
    former = b"00-" + b"a" * 32 + b"-" + b"c" * 16 + b"-01"
    onward = b" HTTP/1.1\r\nHost: h\r\nX: traceparent: " + former + b"\r\ntraceparent: " + former + b"\r\nVia: x"
    assert continued(onward, former, context) == (
        b" HTTP/1.1\r\nHost: h\r\nX: traceparent: "
        + former
        + b"\r\ntraceparent: "
        + context.traceparent
        + b"\r\nVia: x"
    )


def test_spans_are_handed_on_together(opened: Callable[..., Spans], memory: Memory) -> None:
    spans = opened()
    context = spans.begin(b"")
    assert context is not None
    for number in range(3):
        spans.end(context, ended(b"/%d" % number), secure=number == 1)
    assert not memory.got
    spans.flush()
    spans.close()
    assert [(one.path, one.secure) for one in memory.got] == [(b"/0", False), (b"/1", True), (b"/2", False)]
    assert memory.got[0][:3] == context
    assert (memory.got[0].ended, memory.got[0].seconds, memory.got[0].generation) == (1000.5, 0.5, -1)
    assert spans.document() == {"exported": 3, "dropped": 0}
    assert memory.closed


def test_while_the_exporter_is_held_up_nothing_grows(opened: Callable[..., Spans], memory: Memory) -> None:
    spans = opened()
    context = spans.begin(b"")
    assert context is not None
    memory.free.clear()
    spans.end(context, ended(), secure=False)
    spans.flush()
    assert memory.busy.wait(10)
    for _ in range(PENDING + 10):
        spans.end(context, ended(), secure=False)
        spans.flush()
    assert len(spans._pending) == PENDING
    assert spans.document() == {"exported": 0, "dropped": 10}
    memory.free.set()
    spans.close()
    assert spans.document() == {"exported": PENDING + 1, "dropped": 10}


def test_a_router_that_ends_does_not_wait_for_long(
    opened: Callable[..., Spans], memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    spans = opened()
    context = spans.begin(b"")
    assert context is not None
    memory.free.clear()
    spans.end(context, ended(), secure=False)
    spans.close()
    assert memory.closed


def test_an_exporter_that_fails_loses_its_spans_and_tells_no_secret(
    opened: Callable[..., Spans], memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    counts = SpanCounts(exported=5)
    spans = opened(counts=counts)
    context = spans.begin(b"")
    assert context is not None
    memory.fails = RuntimeError("the token is hunter2")
    spans.end(context, ended(), secure=False)
    spans.close()
    assert counts == SpanCounts(exported=5, dropped=1)
    assert re.search("kind failed \\(RuntimeError\\)", caplog.text)
    assert "hunter2" not in caplog.text


def test_what_nobody_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecViolation, match="offers an exporter") as refused:
        Spans(SpanSettings("acme.none", {"token": "hunter2"}), Origin("local", 7))
    assert refused.value.rule == "spans"

    def broken(settings: Any, origin: Any) -> Any:
        raise KeyError("hunter2")

    point = types.SimpleNamespace(load=lambda: broken)
    monkeypatch.setattr(module, "entry_points", lambda group, name: [point])
    with pytest.raises(SpecViolation, match=r"cannot be opened here \(KeyError\)"):
        Spans(SpanSettings("kind", {"token": "hunter2"}), Origin("local", 7))
    assert "hunter2" not in repr(SpanSettings("kind", {"token": "hunter2"}))
