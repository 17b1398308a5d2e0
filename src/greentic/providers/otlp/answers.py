"""The answers of `greentic.telemetry.otlp`, and the settings that follow from them.

endpoint      where the collector listens, http(s)://HOST:4318; `/v1/traces` is added unless the path ends with it
headers       fields of each export by name; a value is the address of the secret that holds it,
              secret://ENV/TENANT/TEAM/CATEGORY/NAME
sample_ratio  the share of the traces that begin here which are sampled, 0 to 1 (1); a caller's context decides for
              requests that have one
timeout_ms    how long one export may take, with its repetitions (10000)
protocol      http/protobuf, the only one
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from greentic.envpacks.telemetry import TelemetryContext
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.spec.secrets import SecretAddress

PROTOCOL: Final = "http/protobuf"
TRACES: Final = "/v1/traces"
"""OTLP 1.x, section OTLP/HTTP request: the default path of traces."""
DEFAULT_TIMEOUT_MS: Final = 10_000
LONGEST_TIMEOUT_MS: Final = 60_000
MOST_HEADERS: Final = 16

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_FIELD_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_KNOWN = ("endpoint", "headers", "protocol", "sample_ratio", "timeout_ms")
_NEXT = "put {endpoint: http://HOST:4318} into a file and name it with --config"

SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["endpoint"],
    "properties": {
        "endpoint": {"type": "string", "description": "where the collector listens, http(s)://HOST:4318"},
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "maxProperties": MOST_HEADERS,
            "description": "fields of each export: name to the address of the secret that holds the value",
        },
        "protocol": {
            "type": "string",
            "const": PROTOCOL,
            "default": PROTOCOL,
            "description": "how spans are sent; there is one way",
        },
        "sample_ratio": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 1,
            "description": "the share of the traces that begin here which are sampled",
        },
        "timeout_ms": {
            "type": "integer",
            "minimum": 1,
            "maximum": LONGEST_TIMEOUT_MS,
            "default": DEFAULT_TIMEOUT_MS,
            "description": "how long one export may take, with its repetitions",
        },
    },
}


class OtlpTelemetry:
    """See `greentic.envpacks.telemetry.Telemetry`."""

    def check(self, environment_id: str, answers: Mapping[str, Any]) -> None:
        """Refuse answers that cannot work, and a machine without the exporter's library."""
        _parsed(environment_id, answers)
        try:
            found = find_spec("opentelemetry.exporter.otlp.proto.http")
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise Conflict(
                "spans by OTLP need the extra greentic[telemetry], which is not installed here",
                next_step="pip install 'greentic[telemetry]'",
            )

    def settings(self, context: TelemetryContext) -> Mapping[str, Any]:
        """The answers with their defaults, and the values of the headers."""
        settings, addresses = _parsed(context.environment_id, context.answers)
        headers: dict[str, str] = {}
        for name, address in addresses.items():
            value = context.secret(address)
            if value is None:
                raise NotFound(
                    f"there is no secret {address.path}, which should hold the header {name} for the collector",
                    details={"secret_ref": address.uri},
                    next_step=f"gtc op secrets put {address.path}",
                )
            headers[name] = value.reveal()
            if not _FIELD_VALUE.fullmatch(headers[name]):
                raise InvalidArgument(
                    f"the secret {address.path} cannot be the header {name}: printable ASCII, no blanks at its ends",
                    next_step=f"gtc op secrets put {address.path}",
                )
        return {**settings, "headers": headers}


def _parsed(environment_id: str, answers: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, SecretAddress]]:
    unknown = sorted(set(answers) - set(_KNOWN))
    if unknown:
        raise InvalidArgument(f"not known: {', '.join(unknown)}; known are {', '.join(_KNOWN)}", next_step=_NEXT)
    if answers.get("protocol", PROTOCOL) != PROTOCOL:
        raise InvalidArgument(f"protocol is {PROTOCOL}")
    ratio = answers.get("sample_ratio", 1)
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
        raise InvalidArgument("sample_ratio is a number from 0 to 1")
    timeout = answers.get("timeout_ms", DEFAULT_TIMEOUT_MS)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 1 <= timeout <= LONGEST_TIMEOUT_MS:
        raise InvalidArgument(f"timeout_ms is a whole number from 1 to {LONGEST_TIMEOUT_MS}")
    settings = {"endpoint": _endpoint(answers.get("endpoint")), "sample_ratio": float(ratio), "timeout_ms": timeout}
    return settings, _headers(environment_id, answers.get("headers", {}))


def _headers(environment_id: str, headers: Any) -> dict[str, SecretAddress]:
    if not isinstance(headers, Mapping) or len(headers) > MOST_HEADERS:
        raise InvalidArgument(f"headers are at most {MOST_HEADERS}, by name")
    found: dict[str, SecretAddress] = {}
    for name, reference in headers.items():
        if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
            raise InvalidArgument("headers: a name is that of an HTTP field (RFC 9110 section 5.1)")
        if not isinstance(reference, str) or not reference.startswith("secret://"):
            # Not shown: it may be the secret itself.
            raise InvalidArgument(
                f"headers.{name} must be the address of a secret: answers lie in a file",
                next_step="gtc op secrets put default/_/otlp/token, and name it: "
                f"{name}: secret://{environment_id}/default/_/otlp/token",
            )
        address = SecretAddress.of_uri(reference)
        if address.environment_id != environment_id:
            raise InvalidArgument(f"headers.{name} must name a secret of the environment '{environment_id}'")
        found[name] = address
    return found


def _endpoint(value: Any) -> str:
    """The URL that spans are posted to."""
    if not isinstance(value, str) or not value:
        raise InvalidArgument("spans by OTLP need an endpoint", next_step=_NEXT)
    try:
        parts = urlsplit(value)
        _ = parts.port
        secret = parts.username is not None or parts.password is not None or bool(parts.query)
    except ValueError:
        # Neither the text nor the reason is shown: what cannot be read may hold a password.
        raise InvalidArgument("the endpoint cannot be read", next_step=_NEXT) from None
    if secret:
        raise InvalidArgument(
            "the endpoint must not hold a user, a password or a query: answers lie in a file",
            next_step="name the secret of a header instead: headers: {authorization: secret://ENV/default/_/otlp/token}",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise InvalidArgument("the endpoint is http://HOST:PORT or https://HOST:PORT", next_step=_NEXT)
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(TRACES) else path + TRACES).geturl()
