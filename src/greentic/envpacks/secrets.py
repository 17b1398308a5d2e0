"""The contract of the secrets slot (reference 03, section 9, with its holes closed).

What every implementation must guarantee, before any method:

1. **Silence.** A value appears in no error, log, audit entry, file name, process argument or `repr`. Errors name the
   address only.
2. **Durability.** When `put` or `delete` returns, the change survives the death of the process and the loss of power.
   When it raises, the old value or the new one is there, whole.
3. **Visibility.** What `put` wrote is what every `get` that begins afterwards returns, from any process.
4. **Idempotence.** `put` of the same value and `delete` of what is gone change nothing that a reader could see.
5. **Isolation.** An environment's secrets are reached through its own store only; a value moved to another address is
   not readable there.
6. **Names are not secret, values are.** `names` lists what there is without opening any value.

Errors: InvalidArgument (an address of another environment, a value that cannot be kept), CorruptDocument (what is
stored was damaged or its key is gone), ProviderError (anything the provider said).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from greentic.spec.errors import InvalidArgument
from greentic.spec.secrets import SecretAddress

MAX_BYTES = 65_536
"""What a value may hold, in UTF-8."""


class SecretValue:
    """A secret's value. It shows itself to `reveal` only."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """InvalidArgument for a value that is empty or too long."""
        if not text:
            raise InvalidArgument("a secret's value must not be empty")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise InvalidArgument("a secret's value must be text") from None
        if size > MAX_BYTES:
            raise InvalidArgument(f"a secret's value holds at most {MAX_BYTES} bytes")
        self._text = text

    def reveal(self) -> str:
        """The value itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretValue) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "SecretValue(…)"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Over a wire it is its text."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(cls._of_text, core_schema.str_schema())

    @classmethod
    def _of_text(cls, text: str) -> SecretValue:
        try:
            return cls(text)
        except InvalidArgument as error:
            raise ValueError(error.message) from None

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret's value is not written anywhere")


@dataclass(frozen=True, slots=True)
class SecretsContext:
    """What a secrets store is made of: the environment, its folder, and the answers of its binding."""

    environment_id: str
    folder: Path
    answers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """One secret without its value. `updated_at` is RFC 3339, None when the provider does not say."""

    address: SecretAddress
    updated_at: str | None = None


class Secrets(Protocol):
    """A place for secrets. The guarantees stand in the module's docstring."""

    def names(self) -> tuple[SecretEntry, ...]:
        """What there is, sorted by address."""
        ...

    def get(self, address: SecretAddress) -> SecretValue | None:
        """The value, None when there is none."""
        ...

    def put(self, address: SecretAddress, value: SecretValue, now: str) -> bool:
        """Keep `value` under `address`; True when there was one before. `now` is RFC 3339."""
        ...

    def delete(self, address: SecretAddress) -> bool:
        """Forget the secret; False when there was none."""
        ...

    def mark(self, address: SecretAddress, value: SecretValue, key: str) -> str:
        """A keyed digest of (address, value, idempotency key) that tells nobody anything without the store's key."""
        ...

    def place(self) -> str:
        """Where it is, in a person's words."""
        ...
