"""Writing admitted entries to a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from greentic.bundles import formats
from greentic.bundles.admission import Admission, Budget, Ratio, too_large
from greentic.bundles.entries import Entry, Kind
from greentic.bundles.formats import Format
from greentic.bundles.limits import Limits
from greentic.bundles.placement import file_system
from greentic.bundles.refusals import Rule, refusal, shown

_FILE_MODE, _EXECUTABLE_MODE, _FOLDER_MODE = 0o644, 0o755, 0o755


def extract(
    file: BinaryIO,
    length: int,
    folder: Path,
    limits: Limits,
    budget: Budget,
    *,
    reserved: frozenset[str] = frozenset(),
    wanted: Callable[[str], bool] | None = None,
) -> Format:
    """Judges every entry of `file`, an archive of `length` bytes, and writes it below `folder`; those that are not
    `wanted` are read and judged only. Returns the format it had.

    `folder` must be empty, and no one else may write there: then no path that was admitted can lead outside. Raises
    BundleError at the first entry that is refused, leaving what was written so far, and InputOutput.
    """
    form = formats.detect(file)
    admission = Admission(limits, budget, reserved=reserved)
    tree = _Tree(folder)
    for entry in formats.entries(file, form, length, limits, budget):
        path = admission.admit(entry)
        content = _counted(entry, limits, budget)
        if wanted is not None and not wanted(path):
            for _ in content:
                pass
        elif entry.kind is Kind.DIRECTORY:
            tree.add_folder(path)
        else:
            tree.add_file(path, content, executable=entry.executable)
    return form


def _counted(entry: Entry, limits: Limits, budget: Budget) -> Iterator[bytes]:
    """The content of an entry, stopped as soon as it is more than may be or than was declared."""
    ratio = Ratio(limits)
    produced = 0
    for chunk in entry.content():
        produced += len(chunk)
        if produced > limits.max_entry_bytes:
            raise too_large(entry.name, limits)
        budget.count_bytes(len(chunk), entry.name)
        if entry.compressed_size is not None:
            ratio.check(produced, entry.compressed_size, entry.name)
        if produced > entry.size:
            break
        yield chunk
    if produced != entry.size:
        raise refusal(
            Rule.MALFORMED, f"{shown(entry.name)} does not have the length that it declares", entry=entry.name
        )


class _Tree:
    """A folder that is being filled. Paths are bytes, so that no locale changes a name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = os.fsencode(folder)
        self._made = {""}

    def add_folder(self, path: str) -> None:
        if path in self._made:
            return
        self.add_folder(path.rpartition("/")[0])
        place = os.path.join(self._root, path.encode())  # noqa: PTH118  # pathlib has no bytes
        with file_system(f"writing {shown(path)}", self._folder):
            os.mkdir(place)  # noqa: PTH102
            os.chmod(place, _FOLDER_MODE)  # noqa: PTH101
        self._made.add(path)

    def add_file(self, path: str, content: Iterator[bytes], *, executable: bool) -> None:
        self.add_folder(path.rpartition("/")[0])
        place = os.path.join(self._root, path.encode())  # noqa: PTH118
        with file_system(f"writing {shown(path)}", self._folder):
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in content:
                with file_system(f"writing {shown(path)}", self._folder):
                    _write_all(file, chunk)
            with file_system(f"writing {shown(path)}", self._folder):
                os.fchmod(descriptor, _EXECUTABLE_MODE if executable else _FILE_MODE)


def _write_all(file: object, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]  # type: ignore[attr-defined]
