"""The closed list of rules an archive is judged by, and the error that names one."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from greentic.spec.errors import BundleError, GreenticError

_SHOWN_CHARACTERS = 200


class Rule(enum.StrEnum):
    """Why an archive was refused: `details["rule"]` of the `BundleError`."""

    # The name of an entry.
    ABSOLUTE_PATH = "absolute-path"
    PARENT_SEGMENT = "parent-segment"
    DOT_SEGMENT = "dot-segment"
    EMPTY_SEGMENT = "empty-segment"
    BACKSLASH = "backslash"
    DRIVE_LETTER = "drive-letter"
    CONTROL_CHARACTER = "control-character"
    NAME_NOT_UTF8 = "name-not-utf8"
    NAME_TOO_LONG = "name-too-long"
    PATH_TOO_LONG = "path-too-long"
    TOO_DEEP = "too-deep"
    RESERVED_PATH = "reserved-path"
    # Entries beside each other.
    DUPLICATE = "duplicate"
    NAME_COLLISION = "name-collision"
    FILE_AS_DIRECTORY = "file-as-directory"
    # What an entry is.
    LINK = "link"
    LINK_ESCAPE = "link-escape"
    SPECIAL_FILE = "special-file"
    SPARSE_FILE = "sparse-file"
    ENCRYPTED = "encrypted"
    UNSUPPORTED_FEATURE = "unsupported-feature"
    # How much there is.
    ARCHIVE_TOO_LARGE = "archive-too-large"
    TOO_MANY_ENTRIES = "too-many-entries"
    ENTRY_TOO_LARGE = "entry-too-large"
    TOTAL_TOO_LARGE = "total-too-large"
    RATIO_TOO_HIGH = "ratio-too-high"
    # The container.
    UNKNOWN_FORMAT = "unknown-format"
    MALFORMED = "malformed"
    TRAILING_DATA = "trailing-data"
    # What the bundle says about itself.
    DIGEST_MISMATCH = "digest-mismatch"
    MANIFEST_MISSING = "manifest-missing"
    MANIFEST_INVALID = "manifest-invalid"
    LOCK_MISMATCH = "lock-mismatch"
    PACK_MISSING = "pack-missing"
    PACK_DIGEST_MISSING = "pack-digest-missing"
    PACK_DIGEST_MISMATCH = "pack-digest-mismatch"
    PACK_UNLISTED = "pack-unlisted"
    NO_ENTRY = "no-entry"


def shown(name: bytes | str) -> str:
    """A name from an archive, safe to print: no control character reaches a terminal, and it has an end."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def refusal(
    rule: Rule,
    message: str,
    *,
    entry: bytes | str | None = None,
    next_step: str | None = None,
    **details: Any,
) -> BundleError:
    """The error for `rule`; `details` holds `rule`, `entry` when one is to blame, and what else is given."""
    named = {} if entry is None else {"entry": shown(entry)}
    return BundleError(message, details={"rule": rule.value, **named, **details}, next_step=next_step)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns every failure of a foreign parser into a refusal.

    Parsers of damaged bytes fail in ways nobody listed (struct.error, KeyError, RecursionError, …). All of them mean
    the same to the caller: this is not a sound `what`.
    """
    try:
        yield
    except GreenticError:
        raise
    except Exception as error:
        reason = shown(str(error)) or type(error).__name__
        raise refusal(Rule.MALFORMED, f"the {what} is damaged or cut short: {reason}") from error
