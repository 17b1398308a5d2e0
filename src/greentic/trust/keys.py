"""The operator key: the file that lets a person or a server speak for an environment (reference 02, section 9.2).

`$GTC_OPERATOR_KEY_PATH` or `~/.greentic/operator/key.pem`: PKCS#8 PEM of Ed25519, mode 0600, with its public half
beside it (`.pub`, SPKI PEM, mode 0644). The file is opened folder by folder and no link is followed on the way, so that
whoever can place a link cannot choose the key. Below the home folder of the default path nothing may be a link; the
way to the home folder itself is the system's. Of a path that somebody names, no part may be one.

`load` writes nothing. `load_or_create` may be called by many at once: the first key that stands there is everybody's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from greentic.spec.errors import InvalidArgument
from greentic.trust.errors import OperatorKeyError, TrustRootError
from greentic.trust.public import PublicKey, der_of, key_id, pem_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["VARIABLE", "OperatorKey", "key_id", "load", "load_or_create", "location", "parse"]

VARIABLE = "GTC_OPERATOR_KEY_PATH"
SEED_BYTES = 32
_V1 = bytes.fromhex("302e020100300506032b657004220420")
_V2 = bytes.fromhex("3051020101300506032b657004220420")
"""What precedes the seed in PKCS#8 (RFC 8410, section 7) and in its second version, which dalek writes (RFC 5958)."""
_V2_PUBLIC = bytes.fromhex("812100")
_MAX_FILE = 16 * 1024
_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o644
_FOLDER_MODE = 0o700
# A folder that may only be passed through, not listed, is still a way to a file.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OperatorKey:
    """An Ed25519 key that can sign. Neither printing nor pickling it shows the private half."""

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, seed: bytes) -> OperatorKey:
        """The key of the 32 secret bytes `seed` (RFC 8032, section 5.1.5)."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # slow to import

        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def key_id(self) -> str:
        """The name of its public half."""
        return self.public.key_id

    @property
    def public_pem(self) -> str:
        """Its public half as SPKI PEM."""
        return self.public.pem

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature over `message` (RFC 8032: deterministic)."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"OperatorKey({self.key_id})"

    def __reduce__(self) -> str:
        raise TypeError("an operator key stays in the process that loaded it")


def location(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the operator key is kept; OperatorKeyError when neither the variable nor a home folder says so."""
    named = environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    home = environ.get("HOME")
    if not home or not Path(home).is_absolute():
        raise OperatorKeyError(
            "the operator key has no place: HOME names no folder",
            next_step=f"set {VARIABLE} to the path of the key file",
        )
    # The way to a home folder may well lead over a link that the administrator made; what is inside may not.
    return Path(os.path.realpath(home)) / ".greentic" / "operator" / "key.pem"


def load(path: Path) -> OperatorKey:
    """The key in the file `path`; writes nothing. OperatorKeyError when it is missing, unsafe or another kind of key.

    A public half beside it must belong to it; a missing one is no fault.
    """
    with _reported(path), _folder(path, create=False) as folder:
        key = _read(folder, path)
        _check_public(folder, path, key)
        return key


def load_or_create(path: Path, entropy: Callable[[int], bytes] = os.urandom) -> OperatorKey:
    """As `load`; makes a key from `entropy` (how many bytes -> secret bytes) when there is none.

    Durable on return. A missing public half is written.
    """
    with _reported(path), _folder(path, create=True) as folder:
        try:
            key = _read(folder, path)
        except FileNotFoundError:
            key = _create(folder, path, entropy)
        if not _check_public(folder, path, key):
            _publish(folder, _public_name(path), key.public_pem.encode(), _PUBLIC_MODE)
            _check_public(folder, path, key)
        return key


def parse(text: str) -> OperatorKey:
    """The key in a PKCS#8 PEM text, version 1 or 2; OperatorKeyError, without the text, for anything else."""
    if text.lstrip().startswith("-----BEGIN ENCRYPTED"):
        raise OperatorKeyError(
            "the operator key is encrypted with a passphrase, which is not supported",
            next_step="openssl pkey -in ENCRYPTED -out PLAIN, then chmod 600 PLAIN",
        )
    try:
        der = der_of(text, "PRIVATE KEY")
    except ValueError as error:
        raise OperatorKeyError(f"the operator key is not PKCS#8 in PEM form: {error}") from None
    # Read by hand: the second version is refused by `cryptography` and by OpenSSL before 3.5.
    seed, rest = der[len(_V1) : len(_V1) + SEED_BYTES], der[len(_V1) + SEED_BYTES :]
    if len(seed) == SEED_BYTES and der.startswith(_V1) and not rest:
        return OperatorKey.from_seed(seed)
    if len(seed) == SEED_BYTES and der.startswith(_V2) and rest.startswith(_V2_PUBLIC):
        key = OperatorKey.from_seed(seed)
        if rest[len(_V2_PUBLIC) :] != key.public.raw:
            raise OperatorKeyError("the public half inside the operator key file does not belong to its private half")
        return key
    raise OperatorKeyError(
        "the operator key is not an Ed25519 key",
        next_step=f"openssl genpkey -algorithm ed25519 -out KEY, chmod 600 KEY, and set {VARIABLE} to it",
    )


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise OperatorKeyError(
            f"there is no operator key at {path}",
            details={"path": str(path), "reason": "missing"},
            next_step="gtc op trust-root bootstrap ENV makes one and trusts it",
        ) from None
    except OSError as error:
        raise OperatorKeyError(
            f"the operator key {path} cannot be used: {error.strerror or 'the file system refused'}",
            details={"path": str(path)},
        ) from None
    except ValueError:  # a NUL in the path
        raise InvalidArgument("the path of the operator key holds a character that no path can hold") from None


@contextlib.contextmanager
def _folder(path: Path, *, create: bool) -> Iterator[int]:
    """A descriptor of the folder of `path`, reached without following a link; OSError, OperatorKeyError."""
    if not path.is_absolute() or ".." in path.parts:
        raise OperatorKeyError(f"the path of the operator key must be absolute and without '..': {path}")
    descriptor = os.open(path.anchor, _FOLDER)
    try:
        walked = Path(path.anchor)
        for name in path.parts[1:-1]:
            walked = walked / name
            inner = _enter(descriptor, name, walked, create=create)
            os.close(descriptor)
            descriptor = inner
        mode = os.fstat(descriptor).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise OperatorKeyError(
                f"everybody can replace the operator key: the folder {walked} is writable by all",
                details={"path": str(walked)},
                next_step=f"chmod o-w {walked}, then look whether the key is still yours",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(folder: int, name: str, path: Path, *, create: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP} and stat.S_ISLNK(_lstat(folder, name)):
            raise _link(path) from None
        raise
    with contextlib.suppress(FileExistsError):  # somebody else was quicker, or put something else there
        os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
        _sync(folder)
    return _enter(folder, name, path, create=False)


def _read(folder: int, path: Path) -> OperatorKey:
    """The key file; FileNotFoundError when there is none, OSError, OperatorKeyError."""
    data, mode = _content(folder, path.name, path)
    if mode & 0o077:
        raise OperatorKeyError(
            f"the operator key {path} can be used by others (mode {mode:04o}; it must be 0600)",
            details={"path": str(path), "mode": f"{mode:04o}"},
            next_step=f"chmod 600 {path}, and make a new key when somebody may have read it",
        )
    return parse(data.decode("ascii", "replace"))


def _check_public(folder: int, path: Path, key: OperatorKey) -> bool:
    """Whether the public half stands beside the key; OperatorKeyError when another stands there, OSError."""
    beside = path.with_name(_public_name(path))
    try:
        data, _ = _content(folder, beside.name, beside)
    except FileNotFoundError:
        return False
    try:
        found = PublicKey.from_pem(data.decode("ascii", "replace")).key_id
    except TrustRootError:
        found = "not a key"
    if found != key.key_id:
        raise OperatorKeyError(
            f"{beside} is not the public half of {path}",
            details={"path": str(beside), "found": found, "expected": key.key_id},
            next_step=f"find out which of both is meant; when it is the private one, remove {beside}",
        )
    return True


def _create(folder: int, path: Path, entropy: Callable[[int], bytes]) -> OperatorKey:
    """A new key that stands complete at `path`, or the one that somebody else was quicker with."""
    pem = pem_of(_V1 + entropy(SEED_BYTES), "PRIVATE KEY")
    if _exists(folder, _public_name(path)):
        # Whoever was quicker writes the private half first: when it is still missing, it was lost.
        with contextlib.suppress(FileNotFoundError):
            return _read(folder, path)
        raise OperatorKeyError(
            f"{path}.pub has no private half: the operator key was lost or moved",
            details={"path": str(path)},
            next_step=f"put the key back at {path}, or remove {path}.pub to begin with a new one",
        )
    _publish(folder, path.name, pem.encode(), _PRIVATE_MODE)
    return _read(folder, path)


def _publish(folder: int, name: str, data: bytes, mode: int) -> None:
    """Make the file `name` appear whole and durable, unless something has that name already. OSError."""
    draft = f".{name}-{os.urandom(8).hex()}"
    descriptor = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask takes away
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        os.unlink(draft, dir_fd=folder)
    _sync(folder)


def _content(folder: int, name: str, path: Path) -> tuple[bytes, int]:
    """(content, mode bits) of a regular file that is no link; FileNotFoundError, OSError, OperatorKeyError."""
    try:
        # Not blocking: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path) from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OperatorKeyError(f"{path} is not a regular file", details={"path": str(path)})
        return os.read(descriptor, _MAX_FILE), stat.S_IMODE(mode)
    finally:
        os.close(descriptor)


def _link(path: Path) -> OperatorKeyError:
    return OperatorKeyError(
        f"{path} is a symbolic link; the way to an operator key may hold none",
        details={"path": str(path)},
        next_step=f'set {VARIABLE} to the real path: realpath "{path}"',
    )


def _lstat(folder: int, name: str) -> int:
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode


def _exists(folder: int, name: str) -> bool:
    try:
        _lstat(folder, name)
    except FileNotFoundError:
        return False
    return True


def _sync(folder: int) -> None:
    # A descriptor from O_PATH cannot be synchronised; the folder is the same.
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _public_name(path: Path) -> str:
    return f"{path.name}.pub"
