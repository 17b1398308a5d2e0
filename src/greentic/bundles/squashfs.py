"""Reading the SquashFS images of the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from greentic.bundles.admission import Ratio, too_large
from greentic.bundles.entries import Entry, Kind
from greentic.bundles.limits import Limits
from greentic.bundles.refusals import Rule, reading, refusal, shown

if TYPE_CHECKING:
    from greentic.bundles.squashfs_image import BoundedImage, Node

_MOST_PADDING_BYTES = 1024 * 1024
_DIRECTORY, _FILE, _SYMLINK = 1, 2, 3


def entries(file: BinaryIO, length: int, limits: Limits) -> Iterator[Entry]:
    """The entries of an image of `length` bytes. Raises BundleError at whatever is not plainly what it should be."""
    with reading("SquashFS image"):
        from greentic.bundles.squashfs_image import BoundedImage

        file.seek(0)
        image = BoundedImage(file, length, limits)
        _refuse_trailing(file, image.size)
        ratio = Ratio(limits)
        produced = [0]
        for node in image.nodes():
            yield _entry(image, node, length, limits, ratio, produced)


def _refuse_trailing(file: BinaryIO, end: int) -> None:
    """Images are padded with zeros to whole pages; nothing else may stand behind one."""
    file.seek(end)
    rest = file.read(_MOST_PADDING_BYTES + 1)
    if len(rest) > _MOST_PADDING_BYTES or rest.strip(b"\0"):
        raise refusal(Rule.TRAILING_DATA, "something stands behind the SquashFS image")


def _entry(image: BoundedImage, node: Node, length: int, limits: Limits, ratio: Ratio, produced: list[int]) -> Entry:
    name = b"/".join(node.path)
    if b"/" in node.path[-1]:
        raise refusal(Rule.MALFORMED, f"the name {shown(node.path[-1])} holds a slash", entry=name)
    inode = node.inode
    executable = bool(inode.mode & 0o100)
    if node.type == _DIRECTORY:
        return Entry(name, Kind.DIRECTORY)
    if node.type == _SYMLINK:
        return Entry(name, Kind.SYMLINK, target=inode._symlink or b"")
    if node.type != _FILE:
        return Entry(name, Kind.SPECIAL)
    size = int(inode.file_size)
    if size > limits.max_entry_bytes:
        raise too_large(name, limits)

    def content() -> Iterator[bytes]:
        with reading("SquashFS image"):
            for chunk in image.iter_file(inode):
                produced[0] += len(chunk)
                ratio.check(produced[0], length, name)
                yield chunk

    return Entry(name, Kind.FILE, size=size, executable=executable, content=content)
