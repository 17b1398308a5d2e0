"""Which container an archive is, told by its first bytes and never by its name."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import BinaryIO

from greentic.bundles import squashfs, streams, tar, zip
from greentic.bundles.admission import Budget
from greentic.bundles.entries import Entry
from greentic.bundles.limits import Limits
from greentic.bundles.refusals import Rule, refusal


class Format(enum.StrEnum):
    """The containers that are read; `tar.zst` is the one that is written."""

    TAR_ZST = "tar.zst"
    TAR_GZ = "tar.gz"
    TAR = "tar"
    ZIP = "zip"
    SQUASHFS = "squashfs"


_USTAR_OFFSET = 257


def detect(file: BinaryIO) -> Format:
    """The format of `file`, which stands at its start again afterwards. Raises BundleError when it is none."""
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return Format.TAR_ZST
    if head.startswith(b"\x1f\x8b"):
        return Format.TAR_GZ
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return Format.ZIP
    if head.startswith(b"hsqs"):
        return Format.SQUASHFS
    if head[_USTAR_OFFSET:].startswith(b"ustar"):
        return Format.TAR
    raise refusal(
        Rule.UNKNOWN_FORMAT,
        "this is not an archive that is read: its first bytes are not those of zstd, gzip, tar, zip or SquashFS",
        known=[form.value for form in Format],
        next_step="build a bundle with: gtc bundle build",
    )


def entries(file: BinaryIO, form: Format, length: int, limits: Limits, budget: Budget) -> Iterator[Entry]:
    """The entries of `file`, an archive of `length` bytes in the format `form`."""
    match form:
        case Format.TAR_ZST:
            return tar.entries(streams.Stream(streams.unzstd(file, limits), "tar archive"), budget)
        case Format.TAR_GZ:
            return tar.entries(streams.Stream(streams.gunzip(file, limits), "tar archive"), budget)
        case Format.TAR:
            return tar.entries(streams.Stream(streams.plain(file), "tar archive"), budget)
        case Format.ZIP:
            return zip.entries(file, limits, budget)
        case Format.SQUASHFS:
            return squashfs.entries(file, length, limits)
