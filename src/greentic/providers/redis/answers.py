"""The answers of `greentic.sessions.redis`, and the settings that follow from them.

url           redis://, rediss:// (TLS) or unix://; with a user name where one is needed, never with a password
password_ref  the address of the secret that holds the password, secret://ENV/TENANT/TEAM/CATEGORY/NAME
namespace     what every key begins with (gt)
timeout_ms    how long a router waits for an answer before it goes on without the pin (50)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from greentic.envpacks.sessions import SessionsContext
from greentic.spec.errors import Conflict, InvalidArgument, NotFound
from greentic.spec.secrets import SecretAddress

DEFAULT_NAMESPACE: Final = "gt"
DEFAULT_TIMEOUT_MS: Final = 50
LONGEST_TIMEOUT_MS: Final = 1000

_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NEXT = "put {url: redis://HOST:6379/0} into a file and name it with --config"

SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    "properties": {
        "url": {
            "type": "string",
            "description": "redis://HOST:PORT/DB, rediss://… (TLS) or unix://PATH; never with a password",
        },
        "password_ref": {
            "type": "string",
            "description": "the secret that holds the password, secret://ENV/TENANT/TEAM/CATEGORY/NAME",
        },
        "namespace": {
            "type": "string",
            "pattern": f"^{_NAMESPACE.pattern}$",
            "default": DEFAULT_NAMESPACE,
            "description": "what every key begins with",
        },
        "timeout_ms": {
            "type": "integer",
            "minimum": 1,
            "maximum": LONGEST_TIMEOUT_MS,
            "default": DEFAULT_TIMEOUT_MS,
            "description": "how long a router waits for an answer before it goes on without the pin",
        },
    },
}
_KNOWN = tuple(sorted(SCHEMA["properties"]))


class RedisSessions:
    """See `greentic.envpacks.sessions.Sessions`."""

    def check(self, environment_id: str, answers: Mapping[str, Any]) -> None:
        """Refuse answers that cannot work, and a machine without the client library."""
        _parsed(environment_id, answers)
        if find_spec("redis") is None:
            raise Conflict(
                "session pins in Redis need the extra greentic[redis], which is not installed here",
                next_step="pip install 'greentic[redis]'",
            )

    def settings(self, context: SessionsContext) -> Mapping[str, Any]:
        """The answers with their defaults, and the password."""
        settings, address = _parsed(context.environment_id, context.answers)
        if address is not None:
            value = context.secret(address)
            if value is None:
                raise NotFound(
                    f"there is no secret {address.path}, which should hold the password of Redis",
                    details={"secret_ref": address.uri},
                    next_step=f"gtc op secrets put {address.path}",
                )
            settings["password"] = value.reveal()
        return settings


def _parsed(environment_id: str, answers: Mapping[str, Any]) -> tuple[dict[str, Any], SecretAddress | None]:
    unknown = sorted(set(answers) - set(_KNOWN))
    if unknown:
        raise InvalidArgument(f"not known: {', '.join(unknown)}; known are {', '.join(_KNOWN)}", next_step=_NEXT)
    namespace = answers.get("namespace", DEFAULT_NAMESPACE)
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise InvalidArgument("namespace holds letters, digits, '.', '_' and '-', at most 64")
    timeout = answers.get("timeout_ms", DEFAULT_TIMEOUT_MS)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 1 <= timeout <= LONGEST_TIMEOUT_MS:
        raise InvalidArgument(f"timeout_ms is a whole number from 1 to {LONGEST_TIMEOUT_MS}")
    reference = answers.get("password_ref")
    if reference is not None and not isinstance(reference, str):
        raise InvalidArgument("password_ref is the address of a secret")
    address = None if reference is None else SecretAddress.of_uri(reference)
    if address is not None and address.environment_id != environment_id:
        raise InvalidArgument(f"password_ref must name a secret of the environment '{environment_id}'")
    return {"url": _url(answers.get("url")), "namespace": namespace, "timeout_ms": timeout}, address


def _url(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidArgument("session pins in Redis need an url", next_step=_NEXT)
    try:
        parts = urlsplit(value)
        secret = parts.password is not None or any(name == "password" for name, _ in parse_qsl(parts.query))
        place = parts.path if parts.scheme == "unix" else parts.hostname
        _ = parts.port
    except ValueError:
        # Neither the text nor the reason is shown: what cannot be read may hold a password.
        raise InvalidArgument("the url of Redis cannot be read", next_step=_NEXT) from None
    if secret:
        raise InvalidArgument(
            "the url of Redis must not hold a password: answers lie in a file",
            next_step="gtc op secrets put default/_/redis/password, and name it: "
            "password_ref: secret://ENV/default/_/redis/password",
        )
    if parts.scheme not in ("redis", "rediss", "unix") or not place:
        raise InvalidArgument("the url of Redis is redis://HOST:PORT/DB, rediss://… or unix://PATH", next_step=_NEXT)
    return value
