"""The server as a process: where it listens, with which certificate, and how it ends (reference 02, section 2)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from greentic.server.app import StoreServer
from greentic.server.desk import Desk
from greentic.server.doors import Bucket, GuardedDoor, OpenDoor
from greentic.server.wire import BoundedProtocol
from greentic.spec.environment import split_address
from greentic.spec.errors import InvalidArgument, StoreError
from greentic.store.contract import ServedStore

LOG = logging.getLogger("greentic.server")
DEFAULT_BIND = "127.0.0.1:8787"
GRACE_SECONDS = 20
"""How long requests in flight may take after somebody asked the server to end."""
LOOK_SECONDS = 2.0
"""How often certificate files are looked at."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve. `rate` bounds the requests of one principal each second; None: unbounded."""

    bind: str = DEFAULT_BIND
    rbac_tokens: Path | None = None
    insecure_allow_non_loopback: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    max_body: int | None = None
    rate: float | None = None
    connections: int = 1_000


def check(settings: Settings) -> list[str]:
    """What is worth a warning; InvalidArgument for what would be a door left open."""
    loopback = _loopback(settings.bind)
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise InvalidArgument("TLS needs both --tls-cert and --tls-key")
    if settings.client_ca is not None and settings.tls_cert is None:
        raise InvalidArgument("--client-ca needs TLS: --tls-cert and --tls-key")
    warnings = []
    if settings.rbac_tokens is None:
        if not loopback and not settings.insecure_allow_non_loopback:
            raise InvalidArgument(
                f"without --rbac-tokens everybody who reaches {settings.bind} could do everything",
                next_step="gtc store token create NAME --file FILE, then serve with --rbac-tokens FILE",
            )
        warnings.append("OPEN-DEV: no --rbac-tokens, so everybody who reaches this address may do everything")
    elif not loopback and settings.tls_cert is None:
        warnings.append("tokens travel in the clear: serve with --tls-cert and --tls-key, or behind a proxy with TLS")
    return warnings


def _loopback(bind: str) -> bool:
    host, _port = split_address(bind)
    return ip_address(host.partition("%")[0]).is_loopback


def serve(store: ServedStore, settings: Settings, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then let what is in flight end. `started` is told the URL.

    SIGHUP reads tokens and certificates again, as does a change of their files. StoreError when the address is taken.
    """
    for warning in check(settings):
        LOG.warning("%s", warning)
    _raise_limit()
    desk = Desk(store, _door(settings))
    if settings.max_body is not None:
        desk.max_body = settings.max_body
    listener = _listener(settings.bind)
    server = _Server(configured(StoreServer(desk), settings))
    # What is alive now stays alive, and a request leaves little: the collector took a tenth of the time of a change.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    config = server.config
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    started(f"{'https' if config.ssl else 'http'}://{shown}:{port}")
    with contextlib.closing(listener):
        runner = asyncio.Runner(loop_factory=config.get_loop_factory())
        with runner:
            runner.run(_run(server, listener, settings, desk))


def _raise_limit() -> None:
    """As many open files as this process may have: each connection is one, even before it showed who it is."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def configured(application: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How the application is served."""
    config = uvicorn.Config(
        application,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS,
        limit_concurrency=settings.connections,
        backlog=2048,
    )
    config.load()
    config.ssl = _tls(settings)
    return config


async def _run(server: _Server, listener: socket.socket, settings: Settings, desk: Desk) -> None:
    reload, loop = _Reload(server, settings, desk), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload.now)
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, server.end)
    watching = asyncio.create_task(reload.watch())
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


class _Server(uvicorn.Server):
    """A server that ends because it was asked to, not because a signal killed it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `end`."""
        yield

    def end(self) -> None:
        """Take no new requests and let those in flight end; asked again, end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        if isinstance(self.config.app, StoreServer):
            self.config.app.feed.end()


class _Reload:
    """Tokens and certificates, read again while connections go on."""

    def __init__(self, server: uvicorn.Server, settings: Settings, desk: Desk) -> None:
        self._server, self._settings, self._desk = server, settings, desk
        self._stamp, self._authorities = self._stamps(), _stamp(settings.client_ca)
        self._newest: ssl.SSLContext | None = None
        if server.config.ssl is not None:
            server.config.ssl.sni_callback = self._hand_over

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """A handshake that begins takes the newest certificate and the newest authorities."""
        if self._newest is not None:
            connection.context = self._newest

    def now(self) -> None:
        """Read everything again."""
        if isinstance(self._desk.doorkeeper, GuardedDoor):
            self._desk.doorkeeper.reload()
        self._certificate()

    async def watch(self) -> None:
        """Follow the certificate's files; the token file is followed where it is used."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._stamps() != self._stamp:
                self._certificate()

    def _stamps(self) -> tuple[object, ...]:
        files = (self._settings.tls_cert, self._settings.tls_key, self._settings.client_ca)
        return tuple(_stamp(path) for path in files)

    def _certificate(self) -> None:
        self._stamp = self._stamps()
        if self._server.config.ssl is None:
            return
        try:
            newest = _tls(self._settings)
        except StoreError as error:
            LOG.error("the certificate was not taken over, the one before still serves: %s", error)
            return
        LOG.info("the certificate was read again")
        if newest is not None:
            self._newest = newest
            self._server.config.ssl.verify_flags = (
                newest.verify_flags
            )  # a handshake takes these before it is handed over
        authorities = _stamp(self._settings.client_ca)
        if authorities != self._authorities:
            self._authorities = authorities
            for one in list(self._server.server_state.connections):
                if isinstance(one, BoundedProtocol):
                    one.retire()


def _door(settings: Settings) -> OpenDoor | GuardedDoor:
    if settings.rbac_tokens is None:
        return OpenDoor(any_name=not _loopback(settings.bind))
    friends = None if settings.rate is None else Bucket(settings.rate, settings.rate * 2)
    door = GuardedDoor(settings.rbac_tokens, friends=friends)
    if door.takes_words:
        LOG.warning(
            "no data planes are named: that a worker is healthy is taken on the caller's word until the first "
            "`gtc store data-plane allow`"
        )
    return door


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
            # A token may stand in for a certificate; without either nobody is recognised.
            context.verify_mode = ssl.CERT_OPTIONAL
            # Each connection shows its certificate anew; taken up from a ticket, it would outlive its authority.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
            if b"BEGIN X509 CRL" in settings.client_ca.read_bytes():
                context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    except (OSError, ssl.SSLError) as error:
        raise StoreError(f"the certificate cannot be used: {error}") from None
    return context


def _listener(bind: str) -> socket.socket:
    host, port = split_address(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StoreError(f"{bind} cannot be listened on: {os.strerror(error.errno or 0)}") from None
    return listener


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_ctime_ns, found.st_ino)
