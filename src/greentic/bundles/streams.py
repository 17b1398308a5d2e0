"""Bounded byte streams: an archive's bytes, uncompressed a little at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from greentic.bundles.admission import Ratio
from greentic.bundles.entries import CHUNK_BYTES
from greentic.bundles.limits import MAX_ZSTD_WINDOW_BYTES, Limits
from greentic.bundles.refusals import Rule, reading, refusal


class Stream:
    """Reads exact amounts from a sequence of chunks."""

    def __init__(self, chunks: Iterator[bytes], what: str) -> None:
        self._chunks = chunks
        self._what = what
        self._buffer = b""

    def some(self, most: int) -> bytes:
        """At least one and at most `most` bytes; nothing at the end."""
        while not self._buffer:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._buffer = chunk
        taken, self._buffer = self._buffer[:most], self._buffer[most:]
        return taken

    def exactly(self, count: int) -> bytes:
        """`count` bytes. Raises BundleError when the stream ends before."""
        return b"".join(self.pieces(count))

    def pieces(self, count: int) -> Iterator[bytes]:
        """`count` bytes in pieces, as they come."""
        while count:
            piece = self.some(count)
            if not piece:
                raise refusal(Rule.MALFORMED, f"the {self._what} is cut short")
            count -= len(piece)
            yield piece


def plain(file: BinaryIO) -> Iterator[bytes]:
    """The bytes as they are."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def gunzip(file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    """One gzip member (RFC 1952); anything behind it is refused."""
    ratio = Ratio(limits)
    inflater = zlib.decompressobj(wbits=31)
    consumed = produced = 0
    pending = b""
    while not inflater.eof:
        if not pending:
            pending = file.read(CHUNK_BYTES)
            consumed += len(pending)
            if not pending:
                raise refusal(Rule.MALFORMED, "the gzip stream is cut short")
        with reading("gzip stream"):
            chunk = inflater.decompress(pending, CHUNK_BYTES)
        pending = inflater.unconsumed_tail
        produced += len(chunk)
        ratio.check(produced, consumed)
        if chunk:
            yield chunk
    if inflater.unused_data or file.read(1):
        raise refusal(Rule.TRAILING_DATA, "something stands behind the gzip stream")


def unzstd(file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    """One zstd frame (RFC 8878), fed block by block; anything behind it is refused.

    A block yields at most 128 KiB, so a bomb is noticed within one block, and a frame that lacks its last block or its
    checksum is noticed at all: a plain streaming reader takes both for an ordinary end.
    """
    import zstandard

    frame = _Frame(file)
    ratio = Ratio(limits)
    inflater = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES).decompressobj()
    produced = 0
    for part in frame.parts():
        with reading("zstd stream"):
            chunk = inflater.decompress(part)
        produced += len(chunk)
        ratio.check(produced, frame.consumed)
        if chunk:
            yield chunk
    # The blocks were split here; whether they make a whole frame is for the library to say.
    if not inflater.eof:
        raise refusal(Rule.MALFORMED, "the zstd stream is cut short")
    if file.read(1):
        raise refusal(Rule.TRAILING_DATA, "something stands behind the zstd stream")


class _Frame:
    """Splits one zstd frame into its header and its blocks (RFC 8878, section 3.1.1)."""

    _LONGEST_HEADER = 18

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.consumed = 0

    def parts(self) -> Iterator[bytes]:
        import zstandard

        start = self._file.tell()
        with reading("zstd stream"):
            head = self._file.read(self._LONGEST_HEADER)
            header = head[: zstandard.frame_header_size(head)]
            parameters = zstandard.get_frame_parameters(head)
        if parameters.window_size > MAX_ZSTD_WINDOW_BYTES:
            raise refusal(
                Rule.UNSUPPORTED_FEATURE,
                f"the zstd stream asks for a window of {parameters.window_size} bytes",
                limit=MAX_ZSTD_WINDOW_BYTES,
            )
        self._file.seek(start)
        yield self._read(len(header))
        last = False
        while not last:
            block = self._read(3)
            number = int.from_bytes(block, "little")
            last = bool(number & 1)
            run_length = (number >> 1) & 3 == 1
            size = 1 if run_length else number >> 3
            yield block + self._read(size)
        if parameters.has_checksum:
            yield self._read(4)

    def _read(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise refusal(Rule.MALFORMED, "the zstd stream is cut short")
        self.consumed += count
        return data
