"""The certificate that an environment's routers serve HTTPS with, read again when its files change.

The runtime reads the files and hands the text to its routers over their control sockets, so that all of them serve the
same pair, and a router that is started while the files are broken serves the last good one.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from greentic.envpacks.deployer import Notice
from greentic.router.tls import LONGEST_AUTHORITIES, LONGEST_PEM, RULE, TlsMaterial, context_of
from greentic.spec.errors import SpecViolation
from greentic.spec.router_settings import RouterTls

CHECK_SECONDS: Final = 2.0
"""How often the files are looked at: a `stat` each."""
SOON: Final = datetime.timedelta(days=14)
_RENEW: Final = "put a good pair in place of the files; the routers take it within seconds"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A pair that serves, and when its certificate ends."""

    material: TlsMaterial
    ends: datetime.datetime


def load(asked: RouterTls) -> Certificate:
    """The pair in the files of `asked`. SpecViolation (`router-tls`) with the reason when nothing can be served."""
    material = TlsMaterial(
        certificate=_read(asked.certificate, LONGEST_PEM),
        private_key=_read(asked.private_key, LONGEST_PEM),
        client_authorities=None
        if asked.client_authorities is None
        else _read(asked.client_authorities, LONGEST_AUTHORITIES),
    )
    try:
        context_of(material)
    except SpecViolation as error:
        raise _broken(f"{error.message}: {asked.certificate}, {asked.private_key}") from None
    from cryptography import x509

    leaf = x509.load_pem_x509_certificates(material.certificate.encode())[0]
    return Certificate(material, leaf.not_valid_after_utc)


class Certificates:
    """The newest good pair for the settings in force."""

    def __init__(self) -> None:
        self._asked: RouterTls | None = None
        self._good: Certificate | None = None
        self._seen: tuple[object, ...] = ()
        self.problem: str | None = None
        """Why the files as they are now are not served; None when they are."""

    def material(self, asked: RouterTls | None) -> TlsMaterial | None:
        """What to serve for `asked`; None for HTTP.

        Broken files leave the last good pair in force and are told in `problem`. SpecViolation (`router-tls`) when
        there has been none.
        """
        if asked is None:
            self._asked, self._good, self.problem = None, None, None
            return None
        if asked != self._asked or self.changed():
            self._asked, self._seen = asked, _marks(asked)
            try:
                self._good, self.problem = load(asked), None
            except SpecViolation as error:
                if self._good is None:
                    self._asked = None
                    raise
                self.problem = error.message
        return self._good.material if self._good is not None else None

    def differs(self, asked: RouterTls | None) -> bool:
        """Whether `material` of `asked` would read other files than those read last, or leave HTTPS."""
        return asked != self._asked or (asked is not None and _marks(asked) != self._seen)

    def changed(self) -> bool:
        """Whether the files are other ones than those read last, or were broken then."""
        return self._asked is not None and (self.problem is not None or _marks(self._asked) != self._seen)

    def notices(self, now: datetime.datetime) -> tuple[Notice, ...]:
        """What somebody should see to."""
        found = []
        if self.problem is not None:
            found.append(Notice(f"the certificate before the newest is served: {self.problem}", _RENEW))
        if self._good is not None and self._good.ends - now < SOON:
            day = self._good.ends.strftime("%Y-%m-%d %H:%M")
            word = "expired" if self._good.ends <= now else "expires"
            found.append(Notice(f"the certificate {word} on {day} UTC", _RENEW))
        return tuple(found)


def _read(path: str, longest: int) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(longest + 1)
    except OSError as error:
        raise _broken(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > longest:
        raise _broken(f"{path} is longer than {longest} bytes")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise _broken(f"{path} is not PEM text") from None


def _broken(message: str) -> SpecViolation:
    return SpecViolation(
        RULE,
        message,
        next_step="gtc op config set --router tls.certificate=/path/chain.pem --router tls.private_key=/path/key.pem",
    )


def _marks(asked: RouterTls) -> tuple[object, ...]:
    """What changes when one of the files does, or where a link leads."""
    marks: list[object] = []
    for path in (asked.certificate, asked.private_key, asked.client_authorities):
        try:
            found = Path(path).stat() if path is not None else None
        except OSError as error:
            marks.append(error.errno)
            continue
        marks.append(found and (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size))
    return tuple(marks)
