"""Disks that fail: at the n-th call, halfway through it, or by forgetting what was not synced."""

from __future__ import annotations

import errno
import os
import random
import signal
from pathlib import Path

from greentic.store.io import LocalFileSystem


class Unsynced(LocalFileSystem):
    """Never waits for the disk: the death of a process loses nothing that was written, synced or not."""

    def sync(self, descriptor):
        pass

    def sync_folder(self, path):
        path.stat()


class Seam(Unsynced):
    """Counts every call that changes something and lets `at` act on the `fatal`-th (from 1)."""

    def __init__(self, fatal: int | None = None) -> None:
        self.calls = 0
        self.fatal = fatal
        self.names: list[str] = []

    def strike(self, name: str, act, data: bytes | None = None, descriptor: int | None = None):
        """What happens at the fatal call; `act` is the call itself."""
        raise NotImplementedError

    def _call(self, name, act, data=None, descriptor=None):
        self.calls += 1
        self.names.append(name)
        if self.calls == self.fatal:
            return self.strike(name, act, data, descriptor)
        return act()

    def make_folder(self, path):
        return self._call("make_folder", lambda: LocalFileSystem.make_folder(self, path))

    def create(self, path):
        return self._call("create", lambda: LocalFileSystem.create(self, path))

    def open_append(self, path):
        return self._call("open_append", lambda: LocalFileSystem.open_append(self, path))

    def write(self, descriptor, data):
        return self._call("write", lambda: LocalFileSystem.write(self, descriptor, data), data, descriptor)

    def truncate(self, descriptor, size):
        return self._call("truncate", lambda: LocalFileSystem.truncate(self, descriptor, size))

    def sync(self, descriptor):
        return self._call("sync", lambda: Unsynced.sync(self, descriptor))

    def sync_folder(self, path):
        return self._call("sync_folder", lambda: Unsynced.sync_folder(self, path))

    def rename(self, source, target):
        return self._call("rename", lambda: LocalFileSystem.rename(self, source, target))

    def link(self, source, target):
        return self._call("link", lambda: LocalFileSystem.link(self, source, target))

    def unlink(self, path):
        return self._call("unlink", lambda: LocalFileSystem.unlink(self, path))


class Counting(Seam):
    """Nothing fails."""


class Killing(Seam):
    """The process is killed before the fatal call; a fatal write writes half of its data first when `torn`."""

    def __init__(self, fatal: int, torn: bool = False) -> None:
        super().__init__(fatal)
        self.torn = torn

    def strike(self, name, act, data=None, descriptor=None):
        if self.torn and data is not None:
            os.write(descriptor, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()


class Failing(Seam):
    """The fatal call raises `code`, with `partial` after half of a write; when `lasting`, every later one too."""

    def __init__(self, fatal: int, code: int = errno.EIO, partial: bool = False, lasting: bool = False) -> None:
        super().__init__(fatal)
        self.code, self.partial, self.lasting = code, partial, lasting

    def _call(self, name, act, data=None, descriptor=None):
        if self.lasting and self.calls >= self.fatal and name in {"write", "create", "make_folder", "link"}:
            self.calls += 1
            raise OSError(self.code, os.strerror(self.code))
        return super()._call(name, act, data, descriptor)

    def strike(self, name, act, data=None, descriptor=None):
        if self.partial and data is not None:
            os.write(descriptor, data[: len(data) // 2])
        raise OSError(self.code, os.strerror(self.code))


class Short(Seam):
    """The fatal write takes half of its data and says so."""

    def strike(self, name, act, data=None, descriptor=None):
        if data is None or len(data) < 2:
            return act()
        return os.write(descriptor, data[: len(data) // 2])


class PowerLost(Exception):
    """The power went at the fatal call."""


class File:
    """A file's content as programs see it and as the disk has it."""

    def __init__(self, content: bytes = b"", durable: bytes = b"") -> None:
        self.content, self.durable = content, durable


class Folder:
    """A folder's entries as programs see them and as the disk has them."""

    def __init__(self) -> None:
        self.entries: dict[str, File | Folder] = {}
        self.durable: dict[str, File | Folder] = {}


class Volatile(Seam):
    """A disk that keeps book of what was synced, and at the fatal call loses power.

    POSIX promises nothing about what was not synced: a name is old or new, each on its own; an unsynced file is old,
    new, cut anywhere, or as long as the new one with zeros where the data should be. `image` writes one such disk.
    """

    def __init__(self, root: Path, fatal: int | None = None) -> None:
        super().__init__(fatal)
        self.root = root
        self.tree = _read(root)

    def strike(self, name, act, data=None, descriptor=None):
        raise PowerLost

    def make_folder(self, path):
        super().make_folder(path)
        self._folder(path.parent).entries[path.name] = Folder()

    def create(self, path):
        descriptor = super().create(path)
        self._folder(path.parent).entries[path.name] = File()
        return descriptor

    def write(self, descriptor, data):
        taken = super().write(descriptor, data)
        self._file(descriptor).content += data[:taken]
        return taken

    def truncate(self, descriptor, size):
        super().truncate(descriptor, size)
        file = self._file(descriptor)
        file.content = file.content[:size]

    def sync(self, descriptor):
        super().sync(descriptor)
        file = self._file(descriptor)
        file.durable = file.content

    def sync_folder(self, path):
        super().sync_folder(path)
        folder = self._folder(path)
        folder.durable = dict(folder.entries)

    def rename(self, source, target):
        super().rename(source, target)
        moved = self._folder(source.parent).entries.pop(source.name)
        self._folder(target.parent).entries[target.name] = moved

    def link(self, source, target):
        super().link(source, target)
        self._folder(target.parent).entries[target.name] = self._folder(source.parent).entries[source.name]

    def unlink(self, path):
        super().unlink(path)
        del self._folder(path.parent).entries[path.name]

    def image(self, target: Path, seed: int) -> None:
        """Write a disk as it may be after the loss: seed 0 lost all that was not synced, others lost at random."""
        chance = random.Random(seed) if seed else None
        _write(self.tree, target, chance, {})

    def _folder(self, path: Path) -> Folder:
        node: File | Folder = self.tree
        for part in path.relative_to(self.root).parts:
            assert isinstance(node, Folder)
            node = node.entries[part]
        assert isinstance(node, Folder)
        return node

    def _file(self, descriptor: int) -> File:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        node = self._folder(path.parent).entries[path.name]
        assert isinstance(node, File)
        return node


def _read(path: Path, known: dict[int, File] | None = None) -> Folder:
    known = {} if known is None else known
    folder = Folder()
    for child in path.iterdir():
        if child.is_dir():
            folder.entries[child.name] = _read(child, known)
        else:
            data = child.read_bytes()
            folder.entries[child.name] = known.setdefault(child.stat().st_ino, File(data, data))
    folder.durable = dict(folder.entries)
    return folder


def _write(folder: Folder, target: Path, chance: random.Random | None, contents: dict[int, bytes]) -> None:
    target.mkdir(mode=0o700)
    for name in sorted({*folder.durable, *folder.entries}):
        old, new = folder.durable.get(name), folder.entries.get(name)
        node = old if chance is None or chance.random() < 0.5 else new
        if isinstance(node, Folder):
            _write(node, target / name, chance, contents)
        elif node is not None:
            # One content per file, whatever its names.
            data = contents.setdefault(id(node), _survived(node, chance))
            (target / name).write_bytes(data)
            (target / name).chmod(0o600)


def _survived(file: File, chance: random.Random | None) -> bytes:
    if chance is None or file.content == file.durable:
        return file.durable
    if not file.content.startswith(file.durable):
        return chance.choice([file.durable, file.content])
    added = file.content[len(file.durable) :]
    cut = chance.randrange(len(added) + 1)
    return file.durable + chance.choice([b"", added, added[:cut], added[:cut] + bytes(len(added) - cut)])
