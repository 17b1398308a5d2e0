"""Signed heads of audit logs: made after changes with the operator key, checked against a trust root.

A head says that entry N has this hash. The log proves everything up to N with it, and cannot be cut back below N or
written anew. A head that a removed key signed still proves what was there when it signed.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from greentic.engine.trust_root import find
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError, SpecViolation
from greentic.spec.parsing import parse, parse_json
from greentic.store.heads import Seal
from greentic.store.segments import lines_backwards
from greentic.store.verification import Head
from greentic.trust import keys
from greentic.trust.errors import OperatorKeyError
from greentic.trust.keys import OperatorKey
from greentic.trust.root import TrustRoot


@dataclass(frozen=True, slots=True)
class CheckedHead:
    """A head: which entry, when it was signed, by which keys, and what that is worth.

    `key` is `trusted`, `removed` (a key that was trusted once) or `unchecked` (no trust root to ask).
    """

    sequence: int
    hash: str
    signed_at: str
    key_ids: tuple[str, ...]
    key: str

    @property
    def anchor(self) -> Head:
        """What the log must hold."""
        return Head(self.sequence, self.hash)

    def document(self) -> dict[str, Any]:
        """The head as it is told."""
        return {
            "sequence": self.sequence,
            "hash": self.hash,
            "signed_at": self.signed_at,
            "key_ids": list(self.key_ids),
            "key": self.key,
        }


def sealing() -> Seal:
    """Signs with the operator key, in environments that trust it. The key is loaded by the first head."""

    def seal(environment: Environment, sequence: int, hash: str, now: str) -> bytes | None:
        key = operator_key_of(environment)
        if key is None:
            return None
        from greentic.trust import chain

        return chain.sign_head(key, environment.environment_id, sequence, hash, now).to_bytes()

    return seal


def operator_key_of(environment: Environment) -> OperatorKey | None:
    """The operator key, when there is one and the environment trusts it."""
    # Where nobody is trusted, nobody can sign: such an environment does not even pay for loading a key.
    if environment.trust_root is None or not environment.trust_root.keys:
        return None
    key = _operator_key(keys.location())
    return None if key is None or find(environment.trust_root.keys, key.key_id) is None else key


def prepare() -> None:
    """Load what `sealing` will need, so that nothing of it stands between a commit and the routers' hearing of it."""
    if _operator_key(keys.location()) is not None:
        from greentic.trust import chain  # noqa: F401 - loaded for the head that follows


def check(data: bytes, root: TrustRoot | None, environment_id: str) -> CheckedHead:
    """The head in `data`, signed by a key that `root` trusts or trusted (None: nobody is asked).

    Errors as of `trust.chain.verify_head`.
    """
    from greentic.trust import chain, dsse, statement

    if root is None:
        envelope = dsse.read(data, "the signed head")
        claim = parse_json(base64.b64decode(envelope.payload), "the signed head")
        told = parse(chain.AuditHeadPredicate, parse(statement.Statement, claim, "the head").predicate, "the head")
        if told.env_id != environment_id:
            raise SpecViolation("EnvIdMismatch", f"the signed head is that of '{told.env_id}'")
        named = tuple(signature.keyid for signature in envelope.signatures)
        return CheckedHead(told.sequence, told.hash, told.signed_at, named, "unchecked")
    signed = chain.read_head(data, (*root.trusted(), *root.once_trusted()), environment_id)
    key = "trusted" if any(root.trusts(key_id) for key_id in signed.key_ids) else "removed"
    return CheckedHead(signed.sequence, signed.hash, signed.signed_at, signed.key_ids, key)


def at_end_of(path: Path) -> bytes | None:
    """The signed head that an export ends with, None when it has none."""
    last = next((line for _, line in lines_backwards(path)), b"")
    try:
        found = json.loads(last)
    except (ValueError, RecursionError):
        return None
    return last if isinstance(found, dict) and "payloadType" in found else None


def line_of(data: bytes) -> bytes:
    """A signed head as the last line of an export."""
    return json.dumps(parse_json(data, "the signed head"), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def sequence_of(data: bytes) -> int | None:
    """The number of the entry that the head in `data` claims to be of; None when it is no head."""
    try:
        payload = parse_json(base64.b64decode(parse_json(data, "the head")["payload"]), "the head")
        sequence = payload["predicate"]["sequence"]
    except (GreenticError, ValueError, KeyError, TypeError):
        return None
    return sequence if isinstance(sequence, int) else None


def _operator_key(path: Path) -> OperatorKey | None:
    try:
        return _loaded(path)
    except OperatorKeyError:
        return None  # no verb fails for it; the doctor says what is wrong


@cache
def _loaded(path: Path) -> OperatorKey:
    """Kept when it was found only: a key may be made, or mended, while a server runs."""
    return keys.load(path)
