"""The one policy that judges the entries of every archive format.

An admitted path is relative, is UTF-8, has no segment that a file system or a shell reads in a special way, and differs
from every other admitted path even on a file system that folds case or Unicode normal forms. A tree of admitted
entries, written into an empty folder in which only this program writes, cannot reach outside it: there are no links
to follow.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata

from greentic.bundles.entries import Entry, Kind
from greentic.bundles.limits import MAX_NAME_BYTES, MAX_PATH_BYTES, Limits
from greentic.bundles.refusals import Rule, refusal, shown

_DRIVE = re.compile(r"[A-Za-z]:")


class Budget:
    """What a bundle has used up of its limits; shared by the archive and the packs inside it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.entries = 0
        self.files = 0
        self.total_bytes = 0

    def count_entry(self, name: bytes) -> None:
        self.entries += 1
        if self.entries > self._limits.max_entries:
            raise refusal(
                Rule.TOO_MANY_ENTRIES,
                f"the archive has more than {self._limits.max_entries} entries",
                entry=name,
                limit=self._limits.max_entries,
            )

    def count_bytes(self, count: int, name: bytes) -> None:
        self.total_bytes += count
        if self.total_bytes > self._limits.max_total_bytes:
            raise refusal(
                Rule.TOTAL_TOO_LARGE,
                f"the archive unpacks to more than {self._limits.max_total_bytes} bytes",
                entry=name,
                limit=self._limits.max_total_bytes,
            )


class Ratio:
    """Stops reading what grows too much while it is uncompressed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def check(self, produced: int, consumed: int, name: bytes | None = None) -> None:
        """Judges `produced` uncompressed bytes that came from `consumed` compressed bytes."""
        limits = self._limits
        if produced > limits.ratio_floor_bytes and produced > limits.max_ratio * consumed:
            raise refusal(
                Rule.RATIO_TOO_HIGH,
                f"{consumed} compressed bytes grew to {produced} bytes, more than {limits.max_ratio} times as many",
                entry=name,
                limit=limits.max_ratio,
            )


class Admission:
    """Judges the entries of one archive, one after the other."""

    def __init__(self, limits: Limits, budget: Budget, *, reserved: frozenset[str] = frozenset()) -> None:
        """`reserved` holds folded top-level names that the archive may not use."""
        self._limits = limits
        self._budget = budget
        self._reserved = reserved
        # Folded path -> (the path as written, is a directory, was an entry of its own).
        self._seen: dict[str, tuple[str, bool, bool]] = {}

    def admit(self, entry: Entry) -> str:
        """The path of `entry`, relative and with `/`. Raises BundleError with the rule that it breaks."""
        self._budget.count_entry(entry.name)
        path = self._judge_name(entry.name)
        self._judge_kind(entry)
        self._judge_size(entry)
        self._judge_place(path, directory=entry.kind is Kind.DIRECTORY)
        if entry.kind is Kind.FILE:
            self._budget.files += 1
        return path

    def _judge_name(self, name: bytes) -> str:
        limits = self._limits
        if len(name) > MAX_PATH_BYTES:
            raise refusal(Rule.PATH_TOO_LONG, f"a path is longer than {MAX_PATH_BYTES} bytes", entry=name)
        try:
            path = name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise refusal(Rule.NAME_NOT_UTF8, f"the name {shown(name)} is not UTF-8", entry=name) from error
        if any(unicodedata.category(character) == "Cc" for character in path):
            raise refusal(Rule.CONTROL_CHARACTER, f"the name {shown(name)} holds a control character", entry=name)
        if "\\" in path:
            raise refusal(Rule.BACKSLASH, f"the name {shown(name)} holds a backslash", entry=name)
        if path.startswith("/"):
            raise refusal(Rule.ABSOLUTE_PATH, f"{shown(name)} is an absolute path", entry=name)
        if _DRIVE.match(path):
            raise refusal(Rule.DRIVE_LETTER, f"{shown(name)} begins with a drive letter", entry=name)
        segments = path.split("/")
        for segment in segments:
            self._judge_segment(segment, name)
        if len(segments) > limits.max_depth:
            raise refusal(
                Rule.TOO_DEEP,
                f"{shown(name)} is deeper than {limits.max_depth} folders",
                entry=name,
                limit=limits.max_depth,
            )
        if fold(segments[0]) in self._reserved:
            raise refusal(Rule.RESERVED_PATH, f"{shown(segments[0])} is a name that unpacking itself uses", entry=name)
        return path

    @staticmethod
    def _judge_segment(segment: str, name: bytes) -> None:
        if segment == "":
            raise refusal(Rule.EMPTY_SEGMENT, f"the path {shown(name)!r} has an empty segment", entry=name)
        if segment == ".":
            raise refusal(Rule.DOT_SEGMENT, f"the path {shown(name)} has a '.' segment", entry=name)
        if segment == "..":
            raise refusal(Rule.PARENT_SEGMENT, f"the path {shown(name)} climbs with '..'", entry=name)
        if len(segment.encode()) > MAX_NAME_BYTES:
            raise refusal(
                Rule.NAME_TOO_LONG, f"a name in {shown(name)} is longer than {MAX_NAME_BYTES} bytes", entry=name
            )

    @staticmethod
    def _judge_kind(entry: Entry) -> None:
        """Links are refused altogether: nothing a bundle needs cannot be said without them."""
        if entry.kind in (Kind.SYMLINK, Kind.HARDLINK):
            if _escapes(entry):
                raise refusal(
                    Rule.LINK_ESCAPE,
                    f"{shown(entry.name)} is a link that leaves the archive: {shown(entry.target)}",
                    entry=entry.name,
                    target=shown(entry.target),
                )
            raise refusal(
                Rule.LINK,
                f"{shown(entry.name)} is a {entry.kind.value}; bundles hold files and folders only",
                entry=entry.name,
                target=shown(entry.target),
            )
        if entry.kind is Kind.SPECIAL:
            raise refusal(Rule.SPECIAL_FILE, f"{shown(entry.name)} is a device, FIFO or socket", entry=entry.name)

    def _judge_size(self, entry: Entry) -> None:
        if entry.size > self._limits.max_entry_bytes:
            raise too_large(entry.name, self._limits)

    def _judge_place(self, path: str, *, directory: bool) -> None:
        parent = posixpath.dirname(path)
        if parent:
            self._stand(parent, path)
        folded = fold(path)
        seen = self._seen.get(folded)
        if seen is None:
            self._seen[folded] = (path, directory, True)
            return
        written, was_directory, explicit = seen
        if written != path:
            raise _collision(path, written)
        if directory != was_directory:
            raise refusal(Rule.FILE_AS_DIRECTORY, f"{shown(path)} is both a file and a folder", entry=path)
        if explicit or not directory:
            raise refusal(Rule.DUPLICATE, f"{shown(path)} appears twice", entry=path)
        self._seen[folded] = (path, True, True)

    def _stand(self, parent: str, path: str) -> None:
        """Records the folders that `path` stands in, from the innermost outwards until one is known."""
        while parent:
            folded = fold(parent)
            seen = self._seen.get(folded)
            if seen is not None:
                written, was_directory, _ = seen
                if written != parent:
                    raise _collision(parent, written)
                if not was_directory:
                    raise refusal(
                        Rule.FILE_AS_DIRECTORY, f"{shown(path)} stands in {shown(parent)}, a file", entry=path
                    )
                return
            self._seen[folded] = (parent, True, False)
            parent = posixpath.dirname(parent)


def fold(path: str) -> str:
    """What a file system that ignores case and normal forms makes of a path (Unicode 16, definition D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


def too_large(name: bytes, limits: Limits) -> Exception:
    """The refusal of an entry that is larger than an entry may be."""
    return refusal(
        Rule.ENTRY_TOO_LARGE,
        f"{shown(name)} is larger than {limits.max_entry_bytes} bytes",
        entry=name,
        limit=limits.max_entry_bytes,
    )


def _collision(path: str, written: str) -> Exception:
    return refusal(
        Rule.NAME_COLLISION,
        f"{shown(path)} and {shown(written)} are one name where case or Unicode form is ignored",
        entry=path,
        other=shown(written),
    )


def _escapes(entry: Entry) -> bool:
    """Whether a link leads out of the archive. A hard link names a path from the root, a symlink from its folder."""
    target = entry.target
    if target.startswith(b"/"):
        return True
    start = b"" if entry.kind is Kind.HARDLINK else posixpath.dirname(entry.name)
    end = posixpath.normpath(posixpath.join(start, target))
    return end == b".." or end.startswith(b"../")
