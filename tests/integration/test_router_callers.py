"""What a worker is told of its caller, through a real router: forwarded fields, trace context, request ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from router_process import Reader, Stage, deployment, echo, revision, staged, table


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        stage.start_router()
        yield stage


def serve(stage: Stage, **options: Any) -> Any:
    worker = stage.worker(echo)
    document = table(deployment([revision("R1", worker.port)]))
    document["options"] |= options
    stage.configure(document)
    return worker


def told(body: bytes) -> dict[str, str]:
    """The forwarded and trace fields in an echoed head."""
    found = [line.partition(": ") for line in body.decode().split("\r\n")[1:]]
    names = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "traceparent", "tracestate", "baggage")
    return {name.lower(): value for name, _, value in found if name.lower() in names}


def test_trust_follows_a_reload_on_the_connections_that_are_open(stage: Stage) -> None:
    """A request that repeats byte for byte is told anew once the rules have changed."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n\r\n"
    replaced = {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "forwarded": 'for=127.0.0.1;host="a";proto=http',
    }
    continued = {
        "x-forwarded-for": "1.1.1.1, 127.0.0.1",
        "x-forwarded-proto": "https",
        "forwarded": 'for=1.1.1.1;proto=https, for=127.0.0.1;host="a";proto=http',
    }
    serve(stage)
    with stage.connect() as client:
        reader = Reader(client)
        for proxies, expected in ([], replaced), (["127.0.0.0/8"], continued), (["10.0.0.0/8"], replaced):
            serve(stage, trusted_proxies=proxies)
            for _ in range(3):
                client.sendall(request)
                assert told(reader.response().body) == expected


def test_one_connection_of_a_proxy_speaks_for_many(stage: Stage) -> None:
    serve(stage, trusted_proxies=["127.0.0.1/32"])
    with stage.connect() as client:
        reader = Reader(client)
        for who in ("1.1.1.1", "2.2.2.2", "2.2.2.2", "1.1.1.1"):
            client.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {who}\r\n\r\n".encode())
            assert told(reader.response().body)["x-forwarded-for"] == f"{who}, 127.0.0.1"
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert told(reader.response().body)["x-forwarded-for"] == "127.0.0.1"


def test_what_else_a_trusted_proxy_says_goes_on(stage: Stage) -> None:
    fields = ("X-Forwarded-Port: 8443", "X-Forwarded-Ssl: on", "X-Forwarded-User: ann", "X-Greentic-Flow: f")
    for proxies in ["127.0.0.0/8"], []:
        serve(stage, trusted_proxies=proxies)
        words = stage.get("/", *fields).body.decode().split("\r\n")
        assert [field for field in fields if field in words] == (list(fields) if proxies else [])


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            [f"Traceparent: {PARENT}", "TraceState: a=1", "tracestate: b=2", "baggage: k=v;p=q,l=w"],
            {"traceparent": PARENT, "tracestate": "b=2", "baggage": "k=v;p=q,l=w"},
        ),
        ([f"traceparent: {PARENT.upper()}", "tracestate: a=1", "baggage: k=v"], {"baggage": "k=v"}),
        ([f"traceparent: {PARENT}", f"traceparent: {PARENT}", "tracestate: a=1"], {}),
        (["tracestate: a=1"], {}),
    ],
)
def test_trace_context_is_passed_on_when_it_is_well_formed(
    stage: Stage, fields: list[str], expected: dict[str, str]
) -> None:
    serve(stage)
    response = stage.get("/", *fields)
    found = {
        name: value for name, value in told(response.body).items() if not name.endswith(("forwarded", "for", "proto"))
    }
    assert found == expected
    if "tracestate" in expected:
        assert b"tracestate: a=1\r\ntracestate: b=2\r\n" in response.body


def test_a_malformed_network_is_refused(stage: Stage) -> None:
    serve(stage)
    with pytest.raises(Exception, match="trusted callers or proxies"):
        serve(stage, trusted_callers=["not a network"])
    assert stage.get().status == 200
