"""Tokens of OpenID Connect issuers: signed JSON Web Tokens, checked against the issuer's published keys (RFC 7519).

The algorithm is the one that the configuration pins, never the token's choice; issuer, audience, begin and end must be
there and hold. Keys are fetched over HTTPS (or from loopback) without following redirects, bounded in size and time,
kept for a while, and fetched anew for an unknown key id at most once in a while, so that nobody can make this server
call the issuer for each request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from greentic.server.access import OIDC, Grant, Principal
from greentic.spec.errors import InvalidArgument
from greentic.spec.store_access import Issuer, StoreAccess

LOG = logging.getLogger("greentic.server")
MAX_KEYS_BYTES = 256 * 1024
FETCH_SECONDS = 5.0
KEPT_SECONDS = 600.0
AGAIN_SECONDS = 30.0
LEEWAY_SECONDS = 30
MAX_ACTOR = 256
"""Characters in the name of a caller."""
LOOPBACK = {"localhost", "127.0.0.1", "::1"}

Fetch = Callable[[str], bytes]
_HEADERS = {"accept": "application/json", "accept-encoding": "identity"}


def fetch(url: str) -> bytes:
    """The bytes at `url`, bounded; OSError otherwise."""
    try:
        return asyncio.run(_fetched(url))
    except TimeoutError:
        raise OSError(f"{url} did not answer within {FETCH_SECONDS:g} seconds") from None


async def _fetched(url: str) -> bytes:
    import httpx2

    try:
        async with (
            asyncio.timeout(FETCH_SECONDS),  # over everything: a timeout of each read lets a slow sender go on for ever
            httpx2.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", url, headers=_HEADERS) as response,
        ):
            if response.status_code != 200:
                raise OSError(f"{url} answered {response.status_code}")
            data = b""
            async for chunk in response.aiter_raw():  # nothing is unpacked: its size would be a guess
                data += chunk
                if len(data) > MAX_KEYS_BYTES:
                    raise OSError(f"{url} sent more than {MAX_KEYS_BYTES} bytes")
            return data
    except httpx2.HTTPError as error:
        raise OSError(f"{url} cannot be fetched: {error}") from None


@dataclass(slots=True)
class _Keys:
    """The keys of one issuer, by key id."""

    url: str
    fetch: Fetch
    clock: Callable[[], float]
    found: dict[str, Any] = field(default_factory=dict)
    fetched: float = float("-inf")
    tried: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, key_id: str) -> Any | None:
        """The key, fetched by one caller when it is unknown or old. Others are told meanwhile what is known already,
        and wait, as long as a fetch may take, only where no key is known at all."""
        now, key = self.clock(), self.found.get(key_id)
        if key is not None and now - self.fetched < KEPT_SECONDS:
            return key
        if not self.lock.acquire(timeout=0 if self.found else FETCH_SECONDS):
            return key
        try:
            if now - self.tried >= AGAIN_SECONDS:
                self.tried = now
                self._fetch()
        finally:
            self.lock.release()
        return self.found.get(key_id)

    def _fetch(self) -> None:
        import jwt

        try:
            document = json.loads(self.fetch(self.url))
            keys = {}
            for one in document["keys"]:
                try:
                    keys[str(one["kid"])] = jwt.PyJWK(one)
                except (KeyError, TypeError, ValueError, jwt.PyJWTError):
                    continue  # a key for something else
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            LOG.error("the keys at %s cannot be used, those from before still count: %s", self.url, error)
            return
        self.found, self.fetched = keys, self.clock()


class Issuers:
    """Every configured issuer."""

    def __init__(
        self, issuers: tuple[Issuer, ...], fetch: Fetch = fetch, clock: Callable[[], float] = time.monotonic
    ) -> None:
        for one in issuers:
            demand_safe(one.jwks_uri)
        self._issuers = {one.issuer: (one, _Keys(one.jwks_uri, fetch, clock)) for one in issuers}

    @classmethod
    def of(cls, access: StoreAccess) -> Issuers:
        """Those of a token file; InvalidArgument for one whose keys would travel in the clear."""
        return cls(access.issuers)

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._issuers)

    def recognise(self, token: str) -> Principal | None:
        """Whom the token names; None when it is not a token of one of them, or grants nothing here."""
        if not self._issuers or token.count(".") != 2:
            return None
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            said = jwt.decode(token, options={"verify_signature": False})
            found = self._issuers.get(str(said.get("iss")))
            if found is None:
                return None
            issuer, keys = found
            key_id, algorithm = header.get("kid"), header.get("alg")
            if not isinstance(key_id, str) or algorithm not in issuer.algorithms:
                return None
            key = keys.of(key_id)
            if key is None or (key.algorithm_name and key.algorithm_name != algorithm):
                return None
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"], "strict_aud": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        return _principal(issuer, claims)


def _principal(issuer: Issuer, claims: Mapping[str, Any]) -> Principal | None:
    actor = claims.get(issuer.actor_claim)
    if not isinstance(actor, str) or not actor.strip() or len(actor) > MAX_ACTOR or not actor.isprintable():
        return None  # cut or mended, it could be somebody else's
    for entry in issuer.grants:
        value = claims.get(entry.claim)
        if value == entry.value or (isinstance(value, list) and entry.value in value):
            grant = Grant(
                entry.role,
                None if entry.env_ids is None else frozenset(entry.env_ids),
                None if entry.customer_ids is None else frozenset(entry.customer_ids),
                None if entry.verbs is None else frozenset(entry.verbs),
            )
            return Principal("oidc", f"{actor} ({issuer.issuer})", OIDC, grant)
    return None


def demand_safe(url: str) -> None:
    """InvalidArgument unless the keys at `url` come by HTTPS or from this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in LOOPBACK:
        return
    raise InvalidArgument(f"the keys of an issuer are fetched by https, not from {url[:200]}")
