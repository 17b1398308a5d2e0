"""What `greentic.envpacks.telemetry` asks of answers and settings."""

from __future__ import annotations

from typing import Any

import pytest
from acme_example import pack

from greentic.envpacks.secrets import SecretValue
from greentic.envpacks.telemetry import Telemetry, TelemetryContext
from greentic.spec.errors import InvalidArgument, NotFound

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
