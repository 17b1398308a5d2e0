"""`greentic.revocation.file`: a list of what is revoked, in a file of the environment's folder.

    <env>/revocations.json   greentic.revocations.v1, written by people or by whoever distributes the list

It is read at every question, so what is added counts at once. A missing file is no empty list: an environment that is
bound to one does without new bundles until it is there.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from greentic.envpacks.revocation import RevocationContext, Revoked, SubjectKind
from greentic.spec.errors import CorruptDocument, InputOutput, NotFound, SpecViolation
from greentic.spec.parsing import Document, Text, parse, parse_json
from greentic.spec.references import RelativePath

FILE: Final = "revocations.json"
SCHEMA: Final = "greentic.revocations.v1"
MAX_BYTES: Final = 16 * 1024 * 1024

ANSWERS: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "description": "the list, relative to the environment's folder", "default": FILE}
    },
}


class _Entry(Document):
    kind: SubjectKind
    subject: Annotated[Text, Field(min_length=1)]
    since: Text
    reason: Text = ""


class _List(Document):
    schema_: Annotated[str, Field(alias="schema", pattern=f"^{SCHEMA}$")]
    entries: tuple[_Entry, ...]


class RevocationFile:
    """See `greentic.envpacks.revocation.Revocation`."""

    def __init__(self, context: RevocationContext) -> None:
        """SpecViolation for answers that name a file elsewhere."""
        self._path = context.folder / parse(_Answers, dict(context.answers), "the answers").file

    def find(self, kind: SubjectKind, subject: str) -> Revoked | None:
        """The entry of `subject`, None when it is not revoked."""
        return next((entry for entry in self.entries() if (entry.kind, entry.subject) == (kind, subject)), None)

    def entries(self) -> tuple[Revoked, ...]:
        """Every entry, in the order of the list."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise NotFound(
                f"there is no list of what is revoked at {self._path}",
                details={"path": str(self._path)},
                next_step=f'put the list there; an empty one is {{"schema": "{SCHEMA}", "entries": []}}',
            ) from None
        except OSError as error:
            raise InputOutput(f"{self._path} cannot be read: {error.strerror}") from None
        if len(data) > MAX_BYTES:
            raise CorruptDocument(f"{self._path} is larger than {MAX_BYTES:,} bytes")
        try:
            found = parse(_List, parse_json(data, str(self._path)), str(self._path))
        except SpecViolation as error:
            raise CorruptDocument(error.message, details=error.details) from None
        return tuple(Revoked(item.kind, item.subject, item.since, item.reason) for item in found.entries)


class _Answers(Document):
    file: RelativePath = FILE
