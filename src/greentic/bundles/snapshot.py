"""The bytes of an archive, held still.

The file that was named can change while it is read, by a rename or in place. So it is opened once and copied, while
it is hashed, to a temporary file without a name that only this process holds; everything else reads the copy. The
digest is therefore the digest of exactly the bytes that were judged and unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from greentic.bundles import digests
from greentic.bundles.entries import CHUNK_BYTES
from greentic.bundles.limits import Limits
from greentic.bundles.placement import file_system
from greentic.bundles.refusals import Rule, refusal
from greentic.spec.errors import InvalidArgument, NotFound


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A private copy, open for reading, with its digest and its length in bytes."""

    file: BinaryIO
    digest: str
    size_bytes: int

    def expect(self, digest: str | None) -> None:
        """Raises BundleError when the digest is not the one given; the comparison takes constant time."""
        if digest is not None and not digests.same_digest(digests.parse_digest(digest), self.digest):
            raise refusal(
                Rule.DIGEST_MISMATCH,
                f"the archive is not the one expected: its digest is {self.digest}, not {digest}",
                expected=digest,
                actual=self.digest,
            )


@contextlib.contextmanager
def snapshot(archive: Path, limits: Limits, folder: Path | None = None) -> Iterator[Snapshot]:
    """A snapshot of `archive`, kept in `folder` or the usual place for temporary files, gone when the block ends.

    Raises NotFound, InvalidArgument when it is no file, InputOutput, and BundleError when it is larger than
    `limits.max_archive_bytes`.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        descriptor = os.open(archive, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {archive}", details={"path": str(archive)}) from error
    except OSError as error:
        with file_system(f"reading {archive}", archive):
            raise error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidArgument(f"{archive} is not a file", details={"path": str(archive)})
    with os.fdopen(descriptor, "rb") as source:
        with file_system("copying the archive", archive):
            copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed below; this block only guards the opening
        with copy:
            hashed = hashlib.sha256()
            size = 0
            with file_system(f"reading {archive}", archive):
                while chunk := source.read(CHUNK_BYTES):
                    size += len(chunk)
                    if size > limits.max_archive_bytes:
                        raise refusal(
                            Rule.ARCHIVE_TOO_LARGE,
                            f"the archive is larger than {limits.max_archive_bytes} bytes",
                            limit=limits.max_archive_bytes,
                        )
                    hashed.update(chunk)
                    copy.write(chunk)
                copy.flush()
                copy.seek(0)
            yield Snapshot(copy, digests.PREFIX + hashed.hexdigest(), size)
