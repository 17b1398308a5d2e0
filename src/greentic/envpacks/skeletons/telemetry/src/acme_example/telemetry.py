"""The answers of `acme.telemetry.example`, and the settings of the routers. See `greentic.envpacks.telemetry`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from greentic.envpacks.telemetry import TelemetryContext
from greentic.spec.errors import InvalidArgument, NotFound
from greentic.spec.secrets import SecretAddress


class ExampleTelemetry:
    """See `greentic.envpacks.telemetry.Telemetry`."""

    def check(self, environment_id: str, answers: Mapping[str, Any]) -> None:
        """Refuse answers that could never work, and any that hold a secret."""
        _parsed(environment_id, answers)

    def settings(self, context: TelemetryContext) -> Mapping[str, Any]:
        """What the routers send with: these may hold the token, which is written nowhere."""
        endpoint, address = _parsed(context.environment_id, context.answers)
        settings: dict[str, Any] = {"endpoint": endpoint}
        if address is not None:
            value = context.secret(address)
            if value is None:
                raise NotFound(
                    f"there is no secret {address.path}, which should hold the collector's token",
                    details={"secret_ref": address.uri},
                    next_step=f"gtc op secrets put {address.path}",
                )
            settings["headers"] = {"authorization": f"Bearer {value.reveal()}"}
        return settings


def _parsed(environment_id: str, answers: Mapping[str, Any]) -> tuple[str, SecretAddress | None]:
    unknown = sorted(set(answers) - {"endpoint", "token_ref"})
    if unknown:
        raise InvalidArgument(f"not known: {', '.join(unknown)}; known are endpoint, token_ref")
    endpoint, reference = answers.get("endpoint"), answers.get("token_ref")
    try:
        parts = urlsplit(endpoint if isinstance(endpoint, str) else "")
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        secret = parts.username is not None or parts.password is not None
    except ValueError:
        sound = secret = False
    if not sound or secret:
        # Not shown: what cannot be used may hold a password.
        raise InvalidArgument("endpoint is a URL such as https://collector:4318, without a password")
    if reference is None:
        return str(endpoint), None
    address = SecretAddress.of_uri(str(reference))
    if address.environment_id != environment_id:
        raise InvalidArgument(f"token_ref must name a secret of the environment '{environment_id}'")
    return str(endpoint), address
