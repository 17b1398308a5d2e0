"""Addresses of secrets: five parts, canonical names, nothing renamed silently."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from greentic.spec.errors import InvalidArgument
from greentic.spec.secrets import SecretAddress, canonical_name, canonical_team, webhook_secret


def test_an_address_is_written_three_ways() -> None:
    address = SecretAddress.of_path("dev", "demo/_/openai/api_key")
    assert address.uri == "secret://dev/demo/_/openai/api_key"
    assert address.store_uri == "secrets://dev/demo/_/openai/api_key"
    assert address.variable == "GREENTIC_SECRET__DEV__DEMO_____OPENAI__API_KEY"
    assert SecretAddress.of_uri(address.uri) == address == SecretAddress.of_uri(address.store_uri)


@pytest.mark.parametrize("team", ["", "_", "default", "Default", " DEFAULT "])
def test_the_whole_tenant_has_one_name(team: str) -> None:
    assert canonical_team(team) == "_"


def test_a_team_looks_up_at_the_whole_tenant_next() -> None:
    address = SecretAddress.of_uri("secret://dev/demo/blue/openai/api_key")
    assert address.shared.path == "demo/_/openai/api_key"
    assert SecretAddress.of_uri("secret://dev/demo/default/openai/api_key").path == address.shared.path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Api-Key", "api_key"),
        ("a.b/c d-e", "a_b_c_d_e"),
        ("__a__b__", "a_b"),
        ("Ünï!", "n"),
        ("!!!", "secret"),
        ("", "secret"),
        ("a" * 200, "a" * 200),
    ],
)
def test_a_name_has_one_form(text: str, expected: str) -> None:
    assert canonical_name(text) == expected


@given(st.text(max_size=30))
@example("İ")
def test_the_canonical_form_is_its_own(text: str) -> None:
    once = canonical_name(text)
    assert canonical_name(once) == once
    assert SecretAddress.of_path("dev", f"t/_/c/{once}").name == once


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a/_/c",
        "a/_/c/d/e",
        "/_/c/d",
        "A/_/c/d",
        "a/default/c/d",
        "a//c/d",
        "a/_/../d",
        "./_/c/d",
        "a/_/c/Api-Key",
        "a/_/c/_d",
        "a/_/c/",
        "a/_/c/d\n",
        "a/_/c\x00/d",
        "a/_/c/" + "d" * 129,
        "a/ü/c/d",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument):
        SecretAddress.of_path("dev", path)


@pytest.mark.parametrize(
    "uri",
    [
        "secret://dev",
        "secret://dev/a/_/c",
        "secret:///a/_/c/d",
        "secret://../a/_/c/d",
        "secret://dev/a/_/c/d@3",
        "secret://dev/a/_/c/d@",
        "runtime://dev/a/_/c/d",
        "hunter2",
    ],
)
def test_what_has_no_place_in_a_store_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        SecretAddress.of_uri(uri)
    assert "hunter2" not in str(caught.value.document())


@pytest.mark.parametrize(
    ("tenant", "expected"),
    [(None, "default/_/messaging-01ab/webhook_secret"), ("acme", "acme/_/messaging-01ab/webhook_secret")],
)
def test_a_webhook_secret_has_its_place(tenant: str | None, expected: str) -> None:
    assert webhook_secret("dev", tenant, "01AB").path == expected
