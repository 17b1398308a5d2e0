"""A SquashFS image opened within bounds.

`PySquashfsImage` reads the tables and inodes; it walks the whole tree before it hands over anything, and uncompresses
what it is given without a bound. The class here keeps its parsing and replaces those two: the walk is lazy, and every
block has the size that the format allows. Layout: https://dr-emann.github.io/squashfs/ (SquashFS 4.0).

This module imports the library and is itself imported where an image is read.
"""

from __future__ import annotations

import lzma
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import zstandard
from PySquashfsImage import SquashFsImage
from PySquashfsImage.const import SQUASHFS_METADATA_SIZE, Compression, Type

from greentic.bundles.limits import MIB, Limits
from greentic.bundles.refusals import Rule, refusal

_MOST_BLOCK_BYTES = MIB
_LEAST_BLOCK_BYTES = 4096
_MOST_METADATA_BYTES = 64 * MIB
_MOST_INODE_BYTES = 4 * MIB
"""Bytes of one inode with its block list: 4 for each block of a file."""
_CACHED_BLOCKS = 4
"""Small files share blocks; neighbours in a folder share the same."""
_MOST_XZ_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Node:
    """One directory entry and the inode that it names."""

    path: tuple[bytes, ...]
    type: int
    inode: Any


class BoundedImage(SquashFsImage):  # type: ignore[misc]  # the library is untyped
    """Reads an image lazily, within `limits`."""

    def __init__(self, file: BinaryIO, length: int, limits: Limits) -> None:
        self._length = length
        self._limits = limits
        self._metadata_bytes = 0
        self._directory_reads = 0
        self._uncompressed_bytes = 0
        self._blocks: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        super().__init__(file, closefd=False)

    def nodes(self) -> Iterator[Node]:
        """Every entry, folders before what they hold. A folder that holds itself has no end: bound the depth."""
        stack = [self._listing((), *self._root)]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            yield node
            if node.type == Type.DIR:
                stack.append(self._listing(node.path, *node.inode.place))

    def _listing(self, path: tuple[bytes, ...], block: int, offset: int) -> Iterator[Node]:
        directory = self._opendir(block, offset)
        for entry in directory.entries:
            place = (entry["start_block"], entry["offset"])
            inode = self._read_inode(*place)
            inode.place = place
            form = int(inode.type)
            if (form if form <= Type.SOCKET else form - Type.SOCKET) != entry["type"]:
                raise refusal(Rule.MALFORMED, "an entry and its inode are of two types")
            yield Node((*path, entry["name"]), int(entry["type"]), inode)

    # What the library would do without a bound.

    def _dir_scan(self, start_block: int, offset: int) -> Any:
        """Only remembers where the root is; `nodes` walks."""
        return (start_block, offset)

    def _read_super(self) -> None:
        super()._read_super()
        block = self.sblk
        size = block.block_size
        sound = (
            _LEAST_BLOCK_BYTES <= size <= _MOST_BLOCK_BYTES
            and size == 1 << block.block_log
            and block.bytes_used <= self._length
            and block.no_ids > 0
        )
        if not sound:
            raise refusal(Rule.MALFORMED, "the SquashFS superblock is not sound; the image may be cut short")
        if max(block.inodes, block.fragments) > self._limits.max_entries + 1:
            raise refusal(
                Rule.TOO_MANY_ENTRIES,
                f"the archive has more than {self._limits.max_entries} entries",
                limit=self._limits.max_entries,
            )

    def _get_compressor(self, compression_id: int) -> Any:
        if compression_id not in (Compression.ZLIB, Compression.XZ, Compression.ZSTD):
            raise refusal(
                Rule.UNSUPPORTED_FEATURE,
                f"the SquashFS image is compressed by method {compression_id}; gzip, xz and zstd are read",
            )
        return _Compressor(compression_id)

    def _read_xattrs_from_disk(self) -> None:
        """Extended attributes are never taken over, so they are not read."""

    def _get_metadata(self, hash_table: dict[int, dict[str, Any]], start: int) -> dict[str, Any]:
        known = start in hash_table
        entry: dict[str, Any] = super()._get_metadata(hash_table, start)
        if not known:
            self._metadata_bytes += len(entry["buffer"])
            if not entry["buffer"] or self._metadata_bytes > _MOST_METADATA_BYTES:
                raise refusal(Rule.MALFORMED, "the metadata of the SquashFS image are empty or too large")
        return entry

    def _read_metadata(self, hash_table: Any, block: int, offset: int, length: int) -> Any:
        if length > _MOST_INODE_BYTES or offset > SQUASHFS_METADATA_SIZE:
            raise refusal(Rule.MALFORMED, "an inode of the SquashFS image has no sound size")
        return super()._read_metadata(hash_table, block, offset, length)

    def _read_directory_data(self, block: int, offset: int, length: int) -> Any:
        # A listing may claim 2^32 entries and is read as a whole; each entry takes two reads and may have a header.
        self._directory_reads += 1
        if self._directory_reads > 3 * self._limits.max_entries + 3:
            raise refusal(
                Rule.TOO_MANY_ENTRIES,
                f"the archive has more than {self._limits.max_entries} entries",
                limit=self._limits.max_entries,
            )
        return super()._read_directory_data(block, offset, length)

    def _read_block(self, start: int, expected: int = SQUASHFS_METADATA_SIZE) -> Any:
        del expected  # The library expects 0 for a full last block; a metadata block is bounded by its format.
        block, following = super()._read_block(start, SQUASHFS_METADATA_SIZE)
        if len(block) > SQUASHFS_METADATA_SIZE:
            raise refusal(Rule.MALFORMED, "a metadata block of the SquashFS image is too large")
        return block, following

    def _read_data_block(self, start: int, size: int) -> bytes:
        """A block of content. The library keeps 256 of them; here some few, and the work of reading is bounded."""
        key = (start, size)
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        stored = size & ~(1 << 24)
        if stored > self.sblk.block_size:
            raise refusal(Rule.MALFORMED, "a block of the SquashFS image is too large")
        self._fd.seek(start)
        data: bytes = self._fd.read(stored)
        if len(data) < stored:
            raise refusal(Rule.MALFORMED, "the SquashFS image is cut short")
        if stored == size:
            data = self._comp.uncompress(data, stored, self.sblk.block_size)
        self._uncompressed_bytes += len(data)
        if self._uncompressed_bytes > 4 * self._limits.max_total_bytes + 256 * MIB:
            raise refusal(Rule.TOTAL_TOO_LARGE, "the SquashFS image uncompresses the same blocks too often")
        self._blocks[key] = data
        if len(self._blocks) > _CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return data


class _Compressor:
    """Uncompresses a block to at most the size it may have."""

    def __init__(self, compression_id: int) -> None:
        self._compression_id = compression_id

    def uncompress(self, data: bytes, size: int, most: int) -> bytes:
        del size
        plain, whole = self._uncompress(data, most)
        if not whole or len(plain) > most:
            raise refusal(Rule.MALFORMED, "a block of the SquashFS image is larger than a block may be")
        return plain

    def _uncompress(self, data: bytes, most: int) -> tuple[bytes, bool]:
        if self._compression_id == Compression.ZLIB:
            inflater = zlib.decompressobj()
            return inflater.decompress(data, most + 1), inflater.eof
        if self._compression_id == Compression.XZ:
            decompressor = lzma.LZMADecompressor(memlimit=_MOST_XZ_BYTES)
            return decompressor.decompress(data, most + 1), decompressor.eof
        if zstandard.get_frame_parameters(data).content_size not in range(most + 1):
            # A frame that names no size would be read on trust; mksquashfs and backhand always name it.
            return b"", False
        return zstandard.ZstdDecompressor(max_window_size=MIB).decompress(data, max_output_size=most), True
