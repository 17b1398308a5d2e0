"""The limits an environment may set are those that the router knows, and mean what it takes them for."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import pytest

from greentic.router.limits import Limits
from greentic.spec.configuration import SetConfigPayload
from greentic.spec.errors import GreenticError
from greentic.spec.parsing import parse_payload
from greentic.spec.router_settings import RouterLimits


def test_every_limit_can_be_set() -> None:
    assert list(RouterLimits.model_fields) == [field.name for field in fields(Limits)]
    doubled = {name: value * 2 for name, value in asdict(Limits()).items()}
    assert Limits.parse(RouterLimits.model_validate(doubled).to_json()) == Limits(**doubled)
    assert Limits.parse(RouterLimits().to_json()) == Limits()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_headers", value) for value in (0, -1, 1.5, "5", True, 1 << 60)),
        *(("header_seconds", value) for value in (0, -1, float("inf"), float("nan"), "5", True, 1e10)),
        ("max_heders", 5),
    ],
)
def test_what_is_no_limit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(GreenticError, match=f"limits.{name}"):
        parse_payload(SetConfigPayload, {"router": {"limits": {name: value}}}, "config")
