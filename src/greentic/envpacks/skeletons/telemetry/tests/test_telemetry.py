"""What `greentic.envpacks.telemetry` asks of answers and settings."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from greentic.envpacks.secrets import SecretValue
from greentic.envpacks.telemetry import Telemetry, TelemetryContext
from greentic.router.spans import Origin, Span
from greentic.spec.errors import InvalidArgument, NotFound

from acme_example import exporter, pack

REFERENCE = "secret://local/default/_/collector/token"


def telemetry() -> Telemetry:
    make = pack().telemetry
    assert make is not None
    return make()


def test_settings_hold_the_secret_and_answers_do_not() -> None:
    answers = {"endpoint": "https://collector:4318", "token_ref": REFERENCE}
    telemetry().check("local", answers)
    context = TelemetryContext("local", answers, lambda address: SecretValue(f"token of {address.name}"))
    assert telemetry().settings(context)["headers"] == {"authorization": "Bearer token of token"}
    with pytest.raises(NotFound):
        telemetry().settings(TelemetryContext("local", answers))


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"endpoint": 7},
        {"endpoint": "collector"},
        {"endpoint": "https://user:hunter2@collector"},
        {"endpoint": "https://[", "token_ref": None},
        {"endpoint": "https://c", "token": "hunter2"},
        {"endpoint": "https://c", "token_ref": "secret://other/default/_/collector/token"},
    ],
)
def test_answers_that_could_never_work(answers: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        telemetry().check("local", answers)
    assert "hunter2" not in str(caught.value)


def test_spans_reach_the_collector() -> None:
    heard: list[tuple[str | None, list[dict[str, Any]]]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            lines = self.rfile.read(int(self.headers["content-length"])).splitlines()
            heard.append((self.headers["authorization"], [json.loads(line) for line in lines]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        settings = {
            "endpoint": f"http://127.0.0.1:{server.server_address[1]}/",
            "headers": {"authorization": "Bearer x"},
        }
        opened = exporter(settings, Origin("local", 7))
        text = ("a" * 32, "b" * 16, "")
        span = Span(*text, 1, 2, "GET", "http", "h", "/", 200, "r", "D", "web", "acme", "R", "v1", 3, "slot", "")
        assert opened.export([tuple(span), tuple(span._replace(status=500))]) == 0
        opened.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    ((token, spans),) = heard
    assert token == "Bearer x"
    assert [(span["env_id"], span["revision"], span["status"]) for span in spans] == [
        ("local", "v1", 200),
        ("local", "v1", 500),
    ]
    with pytest.raises(OSError):
        opened.export([span])
