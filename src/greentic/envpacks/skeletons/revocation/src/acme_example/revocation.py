"""What is revoked, on a list that is fetched. `greentic.envpacks.revocation` says what it must guarantee.

The list is JSON: {"revoked": [{"kind": "bundle", "subject": "sha256:…", "since": RFC 3339, "reason": …}, …]}. One that
cannot be fetched or read refuses everything.
"""

from __future__ import annotations

import json
import urllib.request
from urllib.parse import urlsplit

from greentic.envpacks.revocation import TIMEOUT_SECONDS, RevocationContext, Revoked, SubjectKind
from greentic.spec.errors import CorruptDocument, InvalidArgument, ProviderError

MAX_BYTES = 4 * 1024 * 1024
_KINDS = ("bundle", "key", "env-pack")


class ExampleRevocation:
    """See `greentic.envpacks.revocation.Revocation`."""

    def __init__(self, context: RevocationContext) -> None:
        """InvalidArgument for answers without an url over which a list could be trusted."""
        self._url = str(context.answers.get("url", ""))
        parts = urlsplit(self._url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
            raise InvalidArgument("the answer 'url' names where the list is, https://…")

    def find(self, kind: SubjectKind, subject: str) -> Revoked | None:
        """The entry of `subject`, None when it is not revoked."""
        return next((entry for entry in self.entries() if (entry.kind, entry.subject) == (kind, subject)), None)

    def entries(self) -> tuple[Revoked, ...]:
        """Every entry, in the order of the list."""
        try:
            with urllib.request.urlopen(self._url, timeout=TIMEOUT_SECONDS) as answer:
                data = answer.read(MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            raise ProviderError(f"the list at {self._url} cannot be fetched: {error}") from None
        try:
            if len(data) > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
            return tuple(_entry(item) for item in json.loads(data)["revoked"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptDocument(f"the list at {self._url} cannot be read: {error}") from None


def _entry(item: object) -> Revoked:
    if not isinstance(item, dict) or item.get("kind") not in _KINDS or not isinstance(item.get("subject"), str):
        raise ValueError("an entry has a kind and a subject")
    return Revoked(item["kind"], item["subject"], str(item.get("since", "")), str(item.get("reason", "")))
