"""What a build leaves out: what no bundle wants, and what `.gtignore` lists."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path

from greentic.bundles.authored import MOST_YAML_BYTES
from greentic.spec.errors import InputOutput, InvalidArgument

IGNORE_FILE = ".gtignore"

ALWAYS = (
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    "*.pyc",
    "*.pyo",
    ".DS_Store",
    ".venv",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "node_modules/.cache",
    # Editors: Vim's swap files, Emacs' locks and autosaves, backups.
    ".*.sw[a-p]",
    ".#*",
    "#*#",
    "*~",
)


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    directories_only: bool
    anchored: bool


class Ignored:
    """Answers whether a path of the source is left out.

    A line of `.gtignore` is a shell pattern (`fnmatch`). Without a slash it is matched with the name at any depth;
    with one, with the whole path from the bundle's folder, or, when it does not begin with a slash, with any tail of
    that path. A slash at the end restricts it to folders. Empty lines and lines that begin with `#` followed by a
    space are comments.
    """

    def __init__(self, lines: tuple[str, ...] = ()) -> None:
        self._patterns = tuple(_pattern(line) for line in (*ALWAYS, *lines))

    @classmethod
    def of(cls, directory: Path) -> Ignored:
        """The patterns of the bundle in `directory`. Raises InvalidArgument for a line that is not understood."""
        path = directory / IGNORE_FILE
        try:
            if not path.exists():
                return cls()
            with path.open("rb") as file:
                data = file.read(MOST_YAML_BYTES + 1)
        except OSError as error:
            raise InputOutput(f"{path} cannot be read: {error.strerror}", details={"file": str(path)}) from error
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{path.name} is not UTF-8", details={"file": str(path)}) from error
        lines = []
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.strip()
            if not line or line == "#" or line.startswith("# "):
                continue
            if line.startswith("!"):
                raise InvalidArgument(
                    f"{path.name}, line {number}: patterns that take something back in (!) are not read",
                    details={"file": str(path), "line": number},
                )
            lines.append(line)
        return cls(tuple(lines))

    def __call__(self, path: str, *, directory: bool) -> bool:
        """Whether `path`, relative to the bundle's folder and with slashes, is left out."""
        name = path.rpartition("/")[2]
        for pattern in self._patterns:
            if pattern.directories_only and not directory:
                continue
            if "/" not in pattern.text and not pattern.anchored:
                matches = fnmatch.fnmatchcase(name, pattern.text)
            else:
                matches = fnmatch.fnmatchcase(path, pattern.text) or (
                    not pattern.anchored and fnmatch.fnmatchcase(path, "*/" + pattern.text)
                )
            if matches:
                return True
        return False


def _pattern(line: str) -> _Pattern:
    return _Pattern(
        text=line.strip("/"),
        directories_only=line.endswith("/"),
        anchored=line.startswith("/"),
    )
