"""How the routers of an environment work, whichever deployer runs them. Ours: the reference has no such settings."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from greentic.spec.parsing import Document, Flag, Text

MAX_REPLICAS = 8
"""Router processes of an environment at most."""
SHORTEST_PIN_SECONDS = 1
LONGEST_PIN_SECONDS = 30 * 24 * 3600
DEFAULT_PIN_SECONDS = 3600


def _network(value: str) -> str:
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        raise ValueError("not a network such as 10.0.0.0/8, ::1/128 or 192.0.2.7") from None


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError("must be an absolute path")
    return value


def _address(value: str) -> str:
    from greentic.spec.environment import split_address

    split_address(value)
    return value


_PROBED = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,8}")


def _probed(value: str) -> str:
    if not _PROBED.fullmatch(value) or {".", ".."} & set(value.split("/")):
        raise ValueError("must be a plain path such as /readyz")
    return value


Network = Annotated[Text, AfterValidator(_network)]
Networks = Annotated[tuple[Network, ...], Field(max_length=64)]
AbsolutePath = Annotated[Text, AfterValidator(_absolute)]


def _omitted(value: object) -> bool:
    return value is None


_OMITTED: Any = Field(default=None, exclude_if=_omitted)


class RouterTls(Document):
    """Where the certificate chain and its private key are (PEM). The files are read again when they change.

    `client_authorities` names a PEM file of authorities: a client that proves itself with a certificate of theirs is a
    trusted caller; others are served as before.
    """

    certificate: AbsolutePath
    private_key: AbsolutePath
    client_authorities: AbsolutePath | None = _OMITTED


_Count = Annotated[int, Field(ge=1, le=1 << 53, strict=True)]
_Seconds = Annotated[float, Field(gt=0, le=366 * 24 * 3600, strict=True, allow_inf_nan=False)]

_Rate = Annotated[float, Field(gt=0, le=1e12, strict=True, allow_inf_nan=False)]


class RouterLimits(Document):
    """Bounds of the data path, each of one router process; an absent one has its default (`greentic.router.limits`).

    Bytes and seconds. `max_connections` counts those of clients, `max_worker_connections` those to one worker; who
    finds none free waits (`max_waiting`, `waiting_seconds`).
    """

    max_connections: _Count | None = _OMITTED
    max_worker_connections: _Count | None = _OMITTED
    max_waiting: _Count | None = _OMITTED
    max_url_bytes: _Count | None = _OMITTED
    max_header_bytes: _Count | None = _OMITTED
    max_headers: _Count | None = _OMITTED
    max_body_bytes: _Count | None = _OMITTED
    handshake_seconds: _Seconds | None = _OMITTED
    header_seconds: _Seconds | None = _OMITTED
    body_idle_seconds: _Seconds | None = _OMITTED
    keep_alive_seconds: _Seconds | None = _OMITTED
    write_stall_seconds: _Seconds | None = _OMITTED
    client_bytes_per_second: _Rate | None = _OMITTED
    waiting_seconds: _Seconds | None = _OMITTED
    connect_seconds: _Seconds | None = _OMITTED
    connect_retry_seconds: _Seconds | None = _OMITTED
    response_head_seconds: _Seconds | None = _OMITTED
    response_idle_seconds: _Seconds | None = _OMITTED
    stream_idle_seconds: _Seconds | None = _OMITTED
    upstream_idle_seconds: _Seconds | None = _OMITTED


class RouterSettings(Document):
    """Settings of an environment's routers; an absent one has its default.

    `replicas`: router processes (1). `tls`: serve HTTPS instead of HTTP. `trusted_callers`: networks whose callers may
    name a revision in `x-greentic-revision` and a user in `x-greentic-user` (none). `trusted_proxies`: networks whose
    `Forwarded` and `X-Forwarded-*` are believed (none). `pin_seconds`: how long a visitor's promise to stay on a
    revision lasts (3600). `access_log`: a JSON line per request. `metrics_addr`: where Prometheus reads (nowhere).
    `ready_path`: where each router tells on the environment's own address whether it is ready, on every host and before
    any deployment (nowhere). `limits`: sizes, counts and times that are not the default's.
    """

    replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS, strict=True)] | None = _OMITTED
    tls: RouterTls | None = _OMITTED
    trusted_callers: Networks | None = _OMITTED
    trusted_proxies: Networks | None = _OMITTED
    pin_seconds: Annotated[int, Field(ge=SHORTEST_PIN_SECONDS, le=LONGEST_PIN_SECONDS, strict=True)] | None = _OMITTED
    access_log: Flag | None = _OMITTED
    metrics_addr: Annotated[Text, AfterValidator(_address)] | None = _OMITTED
    ready_path: Annotated[Text, AfterValidator(_probed)] | None = _OMITTED
    limits: RouterLimits | None = _OMITTED


FIELDS = tuple(RouterSettings.model_fields)


def closed(settings: RouterSettings) -> RouterSettings:
    """`settings` as somebody asks for them: a name that is no setting is refused there, although documents keep it."""
    _known(settings, "")
    for name in ("tls", "limits"):
        part: Document | None = getattr(settings, name)
        if part is not None:
            _known(part, f"{name}.")
    return settings


def _known(settings: Document, within: str) -> None:
    unknown = sorted(settings.model_extra or ())
    if unknown:
        names = ", ".join(within + name for name in type(settings).model_fields)
        raise ValueError(f"holds {within + unknown[0]!r}, which is none of {names}")
