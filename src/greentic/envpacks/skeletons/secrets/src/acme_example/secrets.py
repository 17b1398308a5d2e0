"""The store of secrets: one file per secret. `greentic.envpacks.secrets` says what it must guarantee.

    FOLDER/<tenant>/<team>/<category>/<name>   the value, 0600
    FOLDER/.mark                               32 random bytes for `mark`, 0600

A real store is a service: then these methods are its calls, and what it says wrong becomes a ProviderError that names
the address and never the value.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from greentic.envpacks.secrets import MAX_BYTES, SecretEntry, SecretsContext, SecretValue
from greentic.spec.errors import CorruptDocument, InvalidArgument, ProviderError
from greentic.spec.secrets import SecretAddress


class ExampleSecrets:
    """See `greentic.envpacks.secrets.Secrets`."""

    def __init__(self, context: SecretsContext) -> None:
        self._environment_id = context.environment_id
        self._folder = context.folder / str(context.answers.get("folder", "acme_example"))

    def names(self) -> tuple[SecretEntry, ...]:
        """What there is, without opening any value."""
        found = []
        for path in self._folder.glob("*/*/*/*"):
            if path.name.startswith("."):
                continue
            tenant, team, category, name = path.relative_to(self._folder).parts
            address = SecretAddress(self._environment_id, tenant, team, category, name)
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat().replace("+00:00", "Z")
            found.append(SecretEntry(address, changed))
        return tuple(sorted(found, key=lambda entry: entry.address))

    def get(self, address: SecretAddress) -> SecretValue | None:
        """The value, None when there is none."""
        try:
            data = self._path(address).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ProviderError(f"the secret {address.path} cannot be read: {error.strerror}") from None
        try:
            return SecretValue(data[: MAX_BYTES + 1].decode())
        except (UnicodeDecodeError, InvalidArgument):
            # Not even as the cause: what could not be decoded is in the words of that error.
            raise CorruptDocument(f"the secret {address.path} is damaged") from None

    def put(self, address: SecretAddress, value: SecretValue, now: str) -> bool:
        """Durable on return; the old value or the new one is there whenever the power fails."""
        path = self._path(address)
        before = path.exists()
        self._write(path, value.reveal().encode())
        return before

    def delete(self, address: SecretAddress) -> bool:
        """Forget the secret; False when there was none."""
        path = self._path(address)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        self._sync(path.parent)
        return True

    def mark(self, address: SecretAddress, value: SecretValue, key: str) -> str:
        """A digest that tells nobody anything without this store's own key."""
        path = self._folder / ".mark"
        if not path.exists():
            self._write(path, secrets.token_bytes(32))
        parts = [address.uri.encode(), value.reveal().encode(), key.encode()]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.new(path.read_bytes(), message, hashlib.sha256).hexdigest()

    def place(self) -> str:
        """Where it is."""
        return f"files in {self._folder}"

    def _path(self, address: SecretAddress) -> Path:
        if address.environment_id != self._environment_id:
            raise InvalidArgument(f"{address.path} is a secret of '{address.environment_id}', not of this environment")
        parts = (address.tenant, address.team, address.category, address.name)
        if any(part.startswith(".") for part in parts):
            raise InvalidArgument(f"{address.path}: a part that begins with a dot cannot be kept here")
        return self._folder.joinpath(*parts)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ProviderError(f"{self._folder} cannot be written: {error.strerror}") from None
        self._sync(path.parent)

    def _sync(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
