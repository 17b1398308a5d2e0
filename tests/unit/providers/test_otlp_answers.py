"""What may be answered to `greentic.telemetry.otlp`, and what the routers are told of it."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from greentic.envpacks.registry import Registry
from greentic.envpacks.secrets import SecretValue
from greentic.envpacks.telemetry import TelemetryContext
from greentic.providers.otlp import answers as module
from greentic.providers.otlp.answers import SCHEMA, OtlpTelemetry
from greentic.router.table import RoutingTable
from greentic.spec.capabilities import Slot
from greentic.spec.errors import Conflict, GreenticError, InvalidArgument, NotFound, SpecViolation

GOOD = {"endpoint": "https://collector.example:4318"}
REFERENCE = "secret://zain/default/_/otlp/token"


def test_it_is_found_by_its_entry_points() -> None:
    pack = Registry.installed().resolve("greentic.telemetry.otlp@0.1.0", Slot.TELEMETRY)
    assert pack.telemetry is not None
    pack.telemetry().check("zain", GOOD)
    assert pack.answers is not None
    assert pack.answers() == SCHEMA


def test_settings_have_their_defaults_and_the_headers() -> None:
    answers = {**GOOD, "headers": {"authorization": REFERENCE}, "sample_ratio": 0.5, "protocol": "http/protobuf"}
    context = TelemetryContext("zain", answers, lambda _: SecretValue("Bearer hunter2"))
    assert OtlpTelemetry().settings(context) == {
        "endpoint": "https://collector.example:4318/v1/traces",
        "headers": {"authorization": "Bearer hunter2"},
        "sample_ratio": 0.5,
        "timeout_ms": 10_000,
    }
    assert OtlpTelemetry().settings(TelemetryContext("zain", GOOD))["sample_ratio"] == 1.0


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp", "https://h/otlp/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_endpoints(endpoint: str, url: str) -> None:
    assert OtlpTelemetry().settings(TelemetryContext("zain", {"endpoint": endpoint}))["endpoint"] == url


def test_a_secret_that_is_not_there_or_no_header() -> None:
    answers = {**GOOD, "headers": {"authorization": REFERENCE}}
    with pytest.raises(NotFound) as caught:
        OtlpTelemetry().settings(TelemetryContext("zain", answers))
    assert caught.value.next_step == "gtc op secrets put default/_/otlp/token"
    for value in (" x", "x ", "x\r\ny: z", "ü"):
        with pytest.raises(InvalidArgument, match="cannot be the header"):
            OtlpTelemetry().settings(TelemetryContext("zain", answers, lambda _, value=value: SecretValue(value)))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"endpoint": ""},
        {"endpoint": 3},
        {"endpoint": "h:4318"},
        {"endpoint": "ftp://h"},
        {"endpoint": "http://"},
        {"endpoint": "http://h:port"},
        {"endpoint": "http://user:hunter2@h"},
        {"endpoint": "http://h/?token=hunter2"},
        {"endpoint": "http://[hunter2"},
        {**GOOD, "header": {}},
        {**GOOD, "headers": ["a"]},
        {**GOOD, "headers": {"authorization": "Bearer hunter2"}},
        {**GOOD, "headers": {"authorization": "secret://other/default/_/otlp/token"}},
        {**GOOD, "headers": {"a b": REFERENCE}},
        {**GOOD, "headers": {f"h{number}": REFERENCE for number in range(17)}},
        {**GOOD, "sample_ratio": 1.1},
        {**GOOD, "sample_ratio": -0.1},
        {**GOOD, "sample_ratio": True},
        {**GOOD, "sample_ratio": float("nan")},
        {**GOOD, "timeout_ms": 0},
        {**GOOD, "timeout_ms": 60_001},
        {**GOOD, "timeout_ms": 1.5},
        {**GOOD, "protocol": "grpc"},
    ],
)
def test_what_cannot_work_is_refused_without_showing_a_secret(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        OtlpTelemetry().check("zain", wrong)
    assert "hunter2" not in str(caught.value.document())


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(Conflict) as caught:
        OtlpTelemetry().check("zain", GOOD)
    assert caught.value.next_step == "pip install 'greentic[telemetry]'"


def test_the_schema_says_the_same() -> None:
    jsonschema.Draft202012Validator.check_schema(dict(SCHEMA))
    good = {
        **GOOD,
        "headers": {"authorization": REFERENCE},
        "sample_ratio": 0,
        "timeout_ms": 1,
        "protocol": "http/protobuf",
    }
    jsonschema.validate(good, SCHEMA)
    for wrong in ({}, {**GOOD, "sample_ratio": 2}, {**GOOD, "protocol": "grpc"}, {**GOOD, "other": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)
        with pytest.raises(GreenticError):
            OtlpTelemetry().check("zain", wrong)


@pytest.mark.parametrize(
    "wrong", [3, {}, {"kind": ""}, {"kind": "a", "settings": 3}, {"kind": "a", "settings": {"sample_ratio": 2}}]
)
def test_a_table_with_spans_of_no_sense_is_refused(wrong: Any) -> None:
    key = {"kid": "k", "secret": "A" * 43 + "="}
    document = {"version": 1, "env_id": "zain", "deployments": [], "keys": {"active": "k", "ring": [key]}}
    assert RoutingTable.parse(document).spans is None
    with pytest.raises(SpecViolation):
        RoutingTable.parse({**document, "spans": wrong})
