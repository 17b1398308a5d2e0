"""`greentic.secrets.dev-store`: secrets in a file of the environment's folder.

    <env>/.greentic/dev/.dev.secrets.json   each value encrypted by itself (AES-256-GCM), its address authenticated
    <env>/.greentic/dev/key                 the random key, 32 bytes
    <env>/.greentic/dev/.lock               one writer at a time

All three belong to their owner alone (0600). What this protects: a copy of the store file that goes astray (in a
backup, a support bundle, a repository) tells nobody a value without the key file, and a value cannot be moved to
another address unnoticed. What it does not: whoever can read the folder reads every secret. It is for development;
bind another env-pack in the slot `secrets` where that is not enough.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from greentic.envpacks.secrets import SecretEntry, SecretsContext, SecretValue
from greentic.spec.errors import CorruptDocument, GreenticError, InvalidArgument, ProviderError
from greentic.spec.integrity import canonical_json
from greentic.spec.parsing import parse_json
from greentic.spec.secrets import SecretAddress
from greentic.store import folders, lock
from greentic.store.io import FileSystem, LocalFileSystem, read

SCHEMA = "greentic.dev-secrets.v1"
FOLDER = Path(".greentic") / "dev"
FILE = ".dev.secrets.json"
KEY = "key"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class DevStore:
    """See `greentic.envpacks.secrets.Secrets`."""

    def __init__(self, context: SecretsContext, files: FileSystem | None = None) -> None:
        self._environment_id = context.environment_id
        self._root = context.folder.absolute()
        self._folder = self._root / FOLDER
        self._files = files or LocalFileSystem()

    def names(self) -> tuple[SecretEntry, ...]:
        """What there is, sorted by address."""
        return tuple(
            SecretEntry(SecretAddress.of_path(self._environment_id, path), entry.get("updated_at"))
            for path, entry in sorted(self._read().items())
        )

    def get(self, address: SecretAddress) -> SecretValue | None:
        """The value, None when there is none."""
        self._ours(address)
        entry = self._read().get(address.path)
        return None if entry is None else self._opened(address, entry, self._key())

    def put(self, address: SecretAddress, value: SecretValue, now: str) -> bool:
        """Keep `value` under `address`; True when there was one before."""
        self._ours(address)
        with self._writing("put"):
            entries = self._read()
            key = self._key(create=not entries)
            existed = address.path in entries
            if existed and self._opened(address, entries[address.path], key) == value:
                return True
            entries[address.path] = {**_sealed(address, value, key), "updated_at": now}
            self._write(entries)
        return existed

    def delete(self, address: SecretAddress) -> bool:
        """Forget the secret; False when there was none."""
        self._ours(address)
        if not self._folder.exists():
            return False
        with self._writing("delete"):
            entries = self._read()
            existed = entries.pop(address.path, None) is not None
            if existed:
                self._write(entries)
        return existed

    def mark(self, address: SecretAddress, value: SecretValue, key: str) -> str:
        """A keyed digest of (address, value, idempotency key)."""
        if not self._folder.exists() or read(self._folder / KEY) is None:
            with self._writing("mark"):
                secret = self._key(create=not self._read())
        else:
            secret = self._key()
        text = canonical_json(["mark", address.uri, value.reveal(), key])
        return hmac.new(secret, text, hashlib.sha256).hexdigest()

    def place(self) -> str:
        """The file's path."""
        return str(self._folder / FILE)

    def _ours(self, address: SecretAddress) -> None:
        if address.environment_id != self._environment_id:
            raise InvalidArgument(
                f"the secret belongs to the environment '{address.environment_id}', not '{self._environment_id}'"
            )

    @contextmanager
    def _writing(self, verb: str) -> Iterator[None]:
        try:
            folders.ensure(self._files, self._folder.parent)
            folders.ensure(self._files, self._folder)
            with lock.held(self._files, self._folder / ".lock", f"secrets {verb}", lock.Patience()):
                folders.sweep(self._files, self._folder)
                yield
        except OSError as error:
            raise ProviderError(
                f"the secrets in {self._folder} cannot be written: {error.strerror or error}",
                details={"path": str(self._folder)},
            ) from None

    def _read(self) -> dict[str, dict[str, Any]]:
        path = self._folder / FILE
        for folder in (self._folder.parent, self._folder):
            if not folders.exists(folder):
                return {}
        data = read(path)
        if data is None:
            return {}
        _private(path)
        try:
            document = parse_json(data, "the secrets")
            entries = document["secrets"]
            if document["schema"] != SCHEMA or document["environment_id"] != self._environment_id:
                _damaged(path, "it is not this environment's file of secrets")
            for name, entry in entries.items():
                SecretAddress.of_path(self._environment_id, name)
                if not isinstance(entry["nonce"], str) or not isinstance(entry["value"], str):
                    _damaged(path, "an entry is malformed")
        except (GreenticError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, CorruptDocument):
                raise
            _damaged(path, "it is malformed")
        return dict(entries)

    def _write(self, entries: dict[str, dict[str, Any]]) -> None:
        document = {"schema": SCHEMA, "environment_id": self._environment_id, "secrets": entries}
        folders.replace(self._files, self._folder, self._folder / FILE, canonical_json(document) + b"\n")

    def _key(self, *, create: bool = False) -> bytes:
        path = self._folder / KEY
        key = read(path)
        if key is None and create:
            key = secrets.token_bytes(_KEY_BYTES)
            folders.replace(self._files, self._folder, path, key)
        if key is None:
            raise CorruptDocument(
                f"the key of the secrets ({path}) is gone: their values cannot be read any more",
                details={"path": str(path)},
                next_step=f"put the key back from where you keep copies, or remove {self._folder / FILE} "
                "and put every secret anew",
            )
        _private(path)
        if len(key) != _KEY_BYTES:
            _damaged(path, f"a key has {_KEY_BYTES} bytes")
        return key

    def _opened(self, address: SecretAddress, entry: dict[str, Any], key: bytes) -> SecretValue:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            nonce, sealed = (base64.b64decode(entry[field], validate=True) for field in ("nonce", "value"))
            return SecretValue(AESGCM(key).decrypt(nonce, sealed, address.uri.encode()).decode())
        except (InvalidTag, ValueError, GreenticError):
            raise CorruptDocument(
                f"the secret {address.uri} cannot be opened: it was damaged, moved, or belongs to another key",
                details={"secret_ref": address.uri},
                next_step=f"gtc op secrets put {address.path}, to write it anew",
            ) from None


def _sealed(address: SecretAddress, value: SecretValue, key: bytes) -> dict[str, str]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, value.reveal().encode(), address.uri.encode())
    return {"nonce": base64.b64encode(nonce).decode(), "value": base64.b64encode(sealed).decode()}


def _private(path: Path) -> None:
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    if mode & 0o077:
        raise ProviderError(
            f"{path} can be read by others (mode {mode:04o})",
            details={"path": str(path)},
            next_step=f"chmod 600 {path}, and replace the secrets it holds",
        )


def _damaged(path: Path, why: str) -> NoReturn:
    raise CorruptDocument(f"{path} cannot be trusted: {why}", details={"path": str(path)})
