"""SHA-256 digests in their written form."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import BinaryIO

from greentic.bundles.entries import CHUNK_BYTES
from greentic.spec.errors import InputOutput, InvalidArgument, NotFound

PREFIX = "sha256:"
_WRITTEN = re.compile(r"sha256:[0-9a-f]{64}")


def digest(file: BinaryIO) -> str:
    """The digest of what is left to read of `file`."""
    hashed = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        hashed.update(chunk)
    return PREFIX + hashed.hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a file's bytes: "sha256:" and 64 lower-case hexadecimal digits.

    Raises NotFound when there is no such file and InputOutput when it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return digest(file)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", details={"path": str(path)}) from error
    except OSError as error:
        raise InputOutput(f"{path} cannot be read: {error.strerror}", details={"path": str(path)}) from error


def parse_digest(text: str) -> str:
    """`text` when it is a written digest. Raises InvalidArgument otherwise."""
    if not _WRITTEN.fullmatch(text):
        raise InvalidArgument(
            f"{text!r} is not a digest: it is written sha256: and 64 lower-case hexadecimal digits",
            details={"digest": text},
        )
    return text


def same_digest(one: str, other: str) -> bool:
    """Whether two digests are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())
