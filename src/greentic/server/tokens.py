"""The token file: made, read, watched, changed (reference 02, section 3.8).

A token is `gst_<id>_<secret>` with 256 random bits in its secret; the file holds `gst_<id>` and the SHA-256 of the
whole. A hash made for passwords would add nothing: what has 256 bits cannot be guessed from its digest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from greentic.spec.errors import Conflict, InvalidArgument, NotFound, StoreError
from greentic.spec.parsing import parse, parse_json
from greentic.spec.store_access import DataPlaneEntry, StoreAccess, TokenEntry
from greentic.trust.public import PublicKey

MAX_BYTES = 16 * 1024 * 1024
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def read(path: Path, *, nobody: bool = False) -> StoreAccess:
    """The file; StoreError when it cannot be read, or names nobody and may not; SpecViolation for one that cannot be
    understood. `nobody`: a server that runs takes over that the last token was revoked."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise StoreError(f"the token file {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise StoreError(f"the token file {path} is larger than {MAX_BYTES} bytes")
    found = parse(StoreAccess, parse_json(data, str(path)), str(path))
    if found.empty and not nobody:
        raise StoreError(
            f"the token file {path} names nobody, so nobody could do anything",
            next_step="gtc store token create NAME, or serve without --rbac-tokens on this machine only",
        )
    return found


def minted() -> tuple[str, str, str]:
    """(the token, its id, the SHA-256 of the token in hex), fresh."""
    token_id = "gst_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    token = f"{token_id}_{secrets.token_urlsafe(32)}"
    return token, token_id, digest_of(token)


def digest_of(token: str) -> str:
    """The SHA-256 of a token, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def add(path: Path, entry: TokenEntry) -> None:
    """Put a token into the file, which is made when there is none."""
    with _changing(path) as present:
        _write(path, present.model_copy(update={"tokens": (*present.tokens, entry)}))


def remove(path: Path, token_id: str) -> TokenEntry:
    """Take a token out: by its id, or by the beginning of its digest. NotFound; InvalidArgument when several match."""
    with _changing(path) as present:
        matching = [one for one in present.tokens if token_id and token_id in {one.token_id, one.token_sha256}]
        if not matching:
            matching = [one for one in present.tokens if len(token_id) >= 8 and one.token_sha256.startswith(token_id)]
        if not matching:
            raise NotFound(f"there is no token '{token_id[:64]}'", next_step="gtc store token list")
        if len(matching) > 1:
            raise InvalidArgument(f"'{token_id}' begins the digests of {len(matching)} tokens", next_step="name one")
        kept = tuple(one for one in present.tokens if one is not matching[0])
        _write(path, present.model_copy(update={"tokens": kept}))
        return matching[0]


def add_data_plane(path: Path, entry: DataPlaneEntry) -> None:
    """Put a data plane into the file; Conflict for a key that is there already."""
    with _changing(path) as present:
        name = _key_id(entry)
        if any(_key_id(one) == name for one in present.data_planes or ()):
            raise Conflict(f"the key {name} is there already", next_step=f"gtc store data-plane revoke {name}")
        _write(path, present.model_copy(update={"data_planes": (*(present.data_planes or ()), entry)}))


def remove_data_plane(path: Path, key_id: str) -> DataPlaneEntry:
    """Take a data plane out by the id of its key; NotFound."""
    with _changing(path) as present:
        found = next((one for one in present.data_planes or () if _key_id(one) == key_id.lower()), None)
        if found is None:
            raise NotFound(f"there is no data plane '{key_id[:64]}'", next_step="gtc store data-plane list")
        # The list stays, even empty: taking a key out must not bring words back in.
        kept = tuple(one for one in present.data_planes or () if one is not found)
        _write(path, present.model_copy(update={"data_planes": kept}))
        return found


def _key_id(entry: DataPlaneEntry) -> str:
    return PublicKey.from_pem(entry.public_key_pem).key_id


@contextmanager
def _changing(path: Path) -> Iterator[StoreAccess]:
    """The present file, nobody else changing it meanwhile. It may name nobody: then the server refuses it."""
    path = path.resolve()  # a link stays one, and leads the server to what was changed
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(
            path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield (
                parse(StoreAccess, parse_json(path.read_bytes(), str(path)), str(path))
                if path.exists()
                else (StoreAccess())
            )
        finally:
            os.close(lock)
    except OSError as error:
        raise StoreError(f"the token file {path} cannot be changed: {error.strerror}") from None


def _write(path: Path, access: StoreAccess) -> None:
    import json

    path = path.resolve()
    before = path.stat() if path.exists() else None
    text = json.dumps(access.to_json(), indent=2, ensure_ascii=False) + "\n"
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="utf-8") as file:
        try:
            if before is None:
                Path(file.name).chmod(0o600)
            else:  # whom it belongs to and who reads it stays: the server may be another user
                if (before.st_uid, before.st_gid) != (os.getuid(), os.getgid()):
                    os.chown(file.fileno(), before.st_uid, before.st_gid)
                Path(file.name).chmod(before.st_mode & 0o640)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
