"""Signatures under backups: made with the operator key, checked against whom the environment trusts or trusted.

Any store of the same operator takes them. A backup that nobody signed is known by its digests only.
"""

from __future__ import annotations

from typing import Final

from greentic.operations.heads import operator_key_of
from greentic.spec.environment import Environment
from greentic.spec.errors import CorruptDocument, GreenticError

PREDICATE: Final = "greentic.backup-predicate.v1"


class OperatorNotary:
    """Signs with the operator key, in environments that trust it."""

    def sign(self, environment: Environment, name: str, digest: str, now: str) -> bytes | None:
        """A DSSE envelope over the digest; None where the operator key is missing or not trusted."""
        key = operator_key_of(environment)
        if key is None:
            return None
        from greentic.trust import statement

        predicate = {"schema": PREDICATE, "env_id": environment.environment_id, "backup_id": name, "signed_at": now}
        about = statement.about(_subject(environment.environment_id, name), digest, PREDICATE, predicate)
        return statement.sign(about, key).to_bytes()

    def vouches(self, signature: bytes, environment_id: str, name: str, digest: str) -> bool:
        """Whether the operator key made the signature, for exactly this backup."""
        from greentic.trust import dsse, keys, statement

        try:
            ours = keys.load(keys.location()).public
            signed = statement.verify(dsse.read(signature, "the signature of the backup"), (ours,), PREDICATE)
        except (GreenticError, ValueError):
            return False
        told = signed.statement.predicate
        about = (told.get("env_id"), told.get("backup_id")) == (environment_id, name)
        return about and statement.subject_matches(signed.statement, digest)

    def check(self, signature: bytes, environment: Environment, name: str, digest: str) -> None:
        """CorruptDocument unless a key that the environment trusts, or trusted once, signed exactly this backup."""
        from greentic.trust import dsse, root, statement

        trusted = root.of(environment.trust_root) if environment.trust_root is not None else None
        known = () if trusted is None else (*trusted.trusted(), *trusted.once_trusted())
        try:
            signed = statement.verify(dsse.read(signature, "the signature of the backup"), known, PREDICATE)
            told = signed.statement.predicate
            if (told.get("env_id"), told.get("backup_id")) != (environment.environment_id, name):
                raise CorruptDocument("it was made for another backup")
            if not statement.subject_matches(signed.statement, digest):
                raise CorruptDocument("the backup is not the one that was signed")
        except (GreenticError, ValueError) as error:
            why = error.message if isinstance(error, GreenticError) else str(error)
            raise CorruptDocument(
                f"the signature of the backup '{name}' cannot be trusted: {why}",
                details={"environment_id": environment.environment_id, "backup": name, "reason": why},
                next_step="use another backup, or one that you know by its digest",
            ) from None


def _subject(environment_id: str, name: str) -> str:
    return f"backup/{environment_id}/{name}"
