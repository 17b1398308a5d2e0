"""Identifiers, descriptors, references, addresses, timestamps: what is accepted and what is refused, by table."""

from __future__ import annotations

from datetime import date, datetime
from functools import cache
from itertools import product
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from greentic.spec import identifiers, references
from greentic.spec.environment import ListenAddress, WrittenUrl, public_base_url, split_address
from greentic.spec.errors import InvalidArgument
from greentic.spec.parsing import problems
from greentic.spec.references import ExtensionRef, PackDescriptor, RuntimeRef, SecretRef

LONG = "a" * 100_000


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def accepts(kind: object, value: object) -> bool:
    try:
        found = adapter(kind).validate_python(value)
    except ValidationError:
        return False
    assert found == value
    return True


@pytest.mark.parametrize("value", ["local", "a", "A.b_c-9", "...", "-x", "zain-prod", "a" * 128])
def test_environment_ids(value: str) -> None:
    assert identifiers.environment_id(value) == value
    assert accepts(identifiers.EnvironmentId, value)


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "a\\b", "a:b", "a\x00", "a b", "a\n", "\na", "é", "a٣", "ａ", "a" * 129, LONG]
)
def test_not_environment_ids(value: str) -> None:
    with pytest.raises(InvalidArgument):
        identifiers.environment_id(value)
    assert not accepts(identifiers.EnvironmentId, value)


@pytest.mark.parametrize("value", [".hidden", "-rf", "--help", "..."])
def test_an_environment_that_we_create_is_no_hidden_folder_and_no_option(value: str) -> None:
    assert accepts(identifiers.EnvironmentId, value)
    assert not accepts(identifiers.NewEnvironmentId, value)


@pytest.mark.parametrize("value", ["web", "Web-1.2_x", "9", "a" * 63])
def test_names_that_we_create(value: str) -> None:
    assert identifiers.name(value, "deployment") == value
    assert accepts(identifiers.NewName, value)


@pytest.mark.parametrize(
    "value", ["", "-a", ".a", "_a", "a/b", "../a", "a b", "a\n", "a$(x)", "é", "٣", "a" * 64, LONG, "a@b", "a%2f"]
)
def test_not_names(value: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot name a deployment"):
        identifiers.name(value, "deployment")
    assert not accepts(identifiers.NewName, value)


ULID = "01J0000000000000000000000Z"


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (ULID, True),
        ("7" + "Z" * 25, True),
        ("0" * 26, True),
        ("8" + "0" * 25, False),
        (ULID.lower(), False),
        (ULID[:-1], False),
        (ULID + "0", False),
        (ULID + "\n", False),
        (ULID[:-1] + "I", False),
        (ULID[:-1] + "L", False),
        (ULID[:-1] + "O", False),
        (ULID[:-1] + "U", False),
        (ULID[:-1] + "٣", False),
        ("", False),
        (LONG, False),
        (26, False),
    ],
)
def test_ulids(value: str, valid: bool) -> None:
    assert accepts(identifiers.RevisionId, value) is valid
    if isinstance(value, str):
        assert identifiers.is_ulid(value) is valid


@pytest.mark.parametrize(
    "value",
    [
        "2026-07-24T10:00:00Z",
        "2026-07-24T10:00:00.1Z",
        "2026-07-24T10:00:00.123456789+05:30",
        "2024-02-29T23:59:59-23:59",
        "2000-02-29T00:00:00Z",
        "0001-01-01T00:00:00Z",
    ],
)
def test_timestamps(value: str) -> None:
    assert accepts(identifiers.Timestamp, value)
    assert datetime.fromisoformat(value).tzinfo is not None


@pytest.mark.parametrize(
    "value",
    [
        "2026-07-24T10:00:00z",
        "2026-07-24t10:00:00Z",
        "2026-07-24 10:00:00Z",
        "2026-07-24T10:00:00",
        "2026-07-24T10:00Z",
        "2026-07-24T10:00:00Z\n",
        "2026-07-24T10:00:00.Z",
        "2026-07-24T10:00:00.1234567890Z",
        "2026-07-24T24:00:00Z",
        "2026-07-24T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-07-24T10:00:00+24:00",
        "2026-07-24T10:00:00+05:60",
        "2026-07-24T10:00:00+0530",
        "٢٠٢٦-07-24T10:00:00Z",
        "",
        0,
    ],
)
def test_not_timestamps(value: object) -> None:
    assert not accepts(identifiers.Timestamp, value)


def _in_calendar(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def test_timestamps_name_days_of_the_calendar() -> None:
    days = [(year, 2, 29) for year in range(10_000)]
    days += [(year, month, day) for year in (1, 1900, 2000, 2023, 2024) for month in range(14) for day in range(33)]
    for year, month, day in days:
        text = f"{year:04}-{month:02}-{day:02}T00:00:00Z"
        assert accepts(identifiers.Timestamp, text) is _in_calendar(year, month, day), text


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (identifiers.RevisionId, "x", "must be a ULID: 26 upper-case Crockford base32 characters"),
        (identifiers.RevisionId, 5, "must be a text; in YAML, put it in quotes"),
        (identifiers.EnvironmentId, "a/b", "an environment id is 1 to 128 ASCII letters, digits, '.', '_' or '-'"),
        (identifiers.EnvironmentId, "..", "'.' and '..' cannot name an environment"),
        (identifiers.Timestamp, "today", "must be an RFC 3339 timestamp such as 2026-07-24T10:00:00Z"),
        (identifiers.Timestamp, "2026-02-30T10:00:00Z", "names a day that its month does not have"),
        (identifiers.SemVer, "1.0", "must be a semantic version such as 1.4.0"),
        (identifiers.PackId, "\x00", "must not hold control characters"),
        (references.RelativePath, "/etc", "must be a path relative to the environment's folder"),
        (references.RelativePath, "a/../../b", "must stay inside the environment's folder"),
    ],
)
def test_what_is_wrong_with_a_word(kind: Any, value: object, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert problems(caught.value) == [{"path": "(document)", "message": why}]


def test_relative_paths_are_those_that_stay_below() -> None:
    """Every text of up to five of the characters that mean something."""
    for length in range(6):
        for parts in product("./\\:a", repeat=length):
            text = "".join(parts)
            rooted = text[:1] in {"/", "\\"} or "\\" in text or ":" in text[:3]
            assert accepts(references.RelativePath, text) is (not rooted and ".." not in text.split("/")), text


@pytest.mark.parametrize("value", ["k", " k ", "é", "x" * 512])
def test_idempotency_keys(value: str) -> None:
    assert accepts(identifiers.IdempotencyKey, value)


@pytest.mark.parametrize("value", ["", " ", "\t", "a\nb", "a\x7f", "x" * 513, "\ud800"])
def test_not_idempotency_keys(value: str) -> None:
    assert not accepts(identifiers.IdempotencyKey, value)


@pytest.mark.parametrize("value", ["", "any thing/é", "x" * 4_096])
def test_opaque_identifiers_of_others(value: str) -> None:
    assert accepts(identifiers.BundleId, value)


@pytest.mark.parametrize("value", ["a\n", "\x00", "x" * 4_097, "\ud800", None, 5, b"a\xff"])
def test_not_even_opaque(value: object) -> None:
    assert not accepts(identifiers.BundleId, value)


@pytest.mark.parametrize("value", [0, 1, 10_000])
def test_basis_points(value: int) -> None:
    assert accepts(identifiers.BasisPoints, value)


@pytest.mark.parametrize("value", [-1, 10_001, 10**400, 1.0, 0.5, "1", True, None, float("nan")])
def test_not_basis_points(value: object) -> None:
    assert not accepts(identifiers.BasisPoints, value)


@pytest.mark.parametrize(
    ("value", "valid"),
    [(0, False), (-1, False), (1, True), (2**63 - 1, True), (2**63, False), (True, False), (1.0, False), ("1", False)],
)
def test_sequences(value: object, valid: bool) -> None:
    assert accepts(identifiers.Sequence, value) is valid


@pytest.mark.parametrize("value", ["sha256:" + "0a" * 32])
def test_digests(value: str) -> None:
    assert identifiers.is_digest(value)


@pytest.mark.parametrize("value", ["sha256:00", "sha256:" + "0A" * 32, "sha256:" + "0a" * 32 + "\n", "0a" * 32])
def test_not_digests(value: str) -> None:
    assert not identifiers.is_digest(value)


@pytest.mark.parametrize(
    ("text", "path", "version"),
    [
        ("greentic.deployer.k8s@1.0.0", "greentic.deployer.k8s", "1.0.0"),
        ("a.b@0.0.0", "a.b", "0.0.0"),
        (".@1.2.3", ".", "1.2.3"),
        ("a-1.b@1.0.0-rc.1+build.5", "a-1.b", "1.0.0-rc.1+build.5"),
        ("a.b@1.0.0-0a", "a.b", "1.0.0-0a"),
    ],
)
def test_descriptors(text: str, path: str, version: str) -> None:
    found = PackDescriptor.parse(text)
    assert (found.path, found.version, str(found)) == (path, version, text)
    assert accepts(references.Descriptor, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("greentic.state", "no version"),
        ("", "no version"),
        ("@1.0.0", "no path"),
        ("state@1.0.0", "at least one dot"),
        ("a.B@1.0.0", "a-z"),
        ("a._b@1.0.0", "a-z"),
        ("a.é@1.0.0", "a-z"),
        ("a.b\n@1.0.0", "a-z"),
        ("a.b@1.0", "semantic version"),
        ("a.b@1.0.0@2.0.0", "semantic version"),
        ("a.b@v1.0.0", "semantic version"),
        ("a.b@01.0.0", "semantic version"),
        ("a.b@1.0.0-", "semantic version"),
        ("a.b@1.0.0-01", "semantic version"),
        ("a.b@1.0.0+", "semantic version"),
        ("a.b@1.0.0\n", "semantic version"),
        ("a.b@1.0.٣", "semantic version"),
        ("a.b@", "semantic version"),
        ("a.b@1.0.0-" + "0." * 50_000, "semantic version"),
    ],
)
def test_not_descriptors(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        PackDescriptor.parse(text)
    assert not accepts(references.Descriptor, text)


@pytest.mark.parametrize("kind", [SecretRef, RuntimeRef])
@pytest.mark.parametrize(
    ("rest", "environment", "path"),
    [("local", "local", ""), ("local/", "local", ""), ("local/a/b/c/d@1", "local", "a/b/c/d@1"), ("a b/é", "a b", "é")],
)
def test_references(kind: type[SecretRef] | type[RuntimeRef], rest: str, environment: str, path: str) -> None:
    scheme = "secret" if kind is SecretRef else "runtime"
    found = kind.parse(f"{scheme}://{rest}")
    assert (found.environment_id, found.path) == (environment, path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hunter2", "must begin with secret://"),
        ("secrets://local/hunter2", "must begin with secret://"),
        ("SECRET://local/hunter2", "must begin with secret://"),
        ("secret://", "no path"),
        ("secret:///hunter2", "no environment"),
        ("secret://local/hunter2\n", "control characters"),
    ],
)
def test_not_secret_references_and_the_text_is_not_repeated(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason) as refusal:
        SecretRef.parse(text)
    assert "hunter2" not in refusal.value.message
    assert not accepts(references.SecretUri, text)


@pytest.mark.parametrize(
    ("text", "path", "instance"),
    [("ext://acme.audit", "acme.audit", None), ("ext://acme.audit/eu-1", "acme.audit", "eu-1")],
)
def test_extension_references(text: str, path: str, instance: str | None) -> None:
    found = ExtensionRef.parse(text)
    assert (found.path, found.instance) == (path, instance)


@pytest.mark.parametrize(
    "text",
    [
        "acme.audit",
        "ext://",
        "ext://acme",
        "ext://Acme.x",
        "ext://a.b/",
        "ext://a.b/X",
        "ext://a.b/c/d",
        "ext://a.b/c\n",
    ],
)
def test_not_extension_references(text: str) -> None:
    with pytest.raises(InvalidArgument):
        ExtensionRef.parse(text)


@pytest.mark.parametrize("value", ["", "a", "a/b", "revisions/x/..y/z", "./a"])
def test_relative_paths(value: str) -> None:
    assert accepts(references.RelativePath, value)


@pytest.mark.parametrize(
    "value", ["/a", "..", "a/../b", "../a", "a/..", "C:/a", "c:a", "\\a", "a\\..\\b", "a\x00b", "\ud800"]
)
def test_not_relative_paths(value: str) -> None:
    assert not accepts(references.RelativePath, value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("255.255.255.255:65535", ("255.255.255.255", 65535)),
        ("[::1]:8080", ("::1", 8080)),
        ("[fe80::1%3]:1", ("fe80::1%3", 1)),
        ("[::ffff:1.2.3.4]:1", ("::ffff:1.2.3.4", 1)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address
    assert accepts(ListenAddress, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "localhost:8080",
        "127.0.0.1",
        "127.0.0.1:",
        "256.0.0.1:1",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:99999999999",
        "127.0.0.1:8080\n",
        "127.0.0.1:٨٠",
        "01.2.3.4:1",
        "1.2.3:1",
        "::1:8080",
        "[::1]",
        "[:::]:1",
        "[1.2.3.4]:1",
        "[]:1",
        "[::1:1",
        "127.0.0.1:80 ",
        "\ud800",
    ],
)
def test_not_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"ip:port|65535"):
        split_address(text)
    assert not accepts(ListenAddress, text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("  http://localhost:8080/ ", "http://localhost:8080"),
        ("HTTPS://A.example", "HTTPS://A.example"),
        ("http://[::1]:1", "http://[::1]:1"),
        ("https://xn--bcher-kva.example.", "https://xn--bcher-kva.example."),
    ],
)
def test_public_base_urls(text: str, canonical: str) -> None:
    assert public_base_url(text) == canonical
    assert accepts(WrittenUrl, text), "a document keeps it as written"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a.example",
        "ftp://a",
        "https://",
        "https:///x",
        "https:a",
        "//a",
        "https://a/b",
        "https://a//",
        "https://a?",
        "https://a?x=hunter2",
        "https://a#",
        "https://a/#x",
        "https://u@a",
        "https://u:hunter2@a",
        "https://@a",
        "https://a b",
        "https://a\tb",
        "https://a:0",
        "https://a:65536",
        "https://a:x",
        "https://a:",
        "https://[::1",
        "https://[:::]",
        "\x00https://a",
        "https://a\\b",
        "https://a..b",
        "https://.",
        "https://%61",
        "https://bücher.example",
        "https://a:٨",
        "https://a\n/",
        "javascript://a",
        "https://\ud800",
    ],
)
def test_not_public_base_urls_and_never_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="public base URL") as refusal:
        public_base_url(text)
    assert "hunter2" not in str(refusal.value)
    assert not accepts(WrittenUrl, text)
