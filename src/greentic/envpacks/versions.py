"""Which versions of a descriptor an env-pack serves: a caret range of semantic versions.

`^1.4.0` is every version from 1.4.0 on that changes nothing left of the first part that is not zero: below 2.0.0 here,
below 0.3.0 for `^0.2.5`, 0.0.4 alone for `^0.0.4`. A pre-release is served only by a range that begins with a
pre-release of the same three numbers: nobody gets an unfinished version unasked (SemVer 2.0.0 section 9 and 11; the
rule is that of Cargo and npm).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from greentic.spec.identifiers import SEMVER

_Precedence = tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class VersionRange:
    """The caret range that `text` writes, such as `^1.0.0`; `first` is the version that it begins with."""

    text: str
    first: str

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """ValueError for what is no caret range."""
        first = text.removeprefix("^")
        if not text.startswith("^") or SEMVER.fullmatch(first) is None:
            raise ValueError(f"'{text}' is not a range of versions such as ^1.0.0")
        return cls(text, first)

    def holds(self, version: str) -> bool:
        """Whether `version` is in the range; False for what is no version."""
        wanted, found = SEMVER.fullmatch(self.first), SEMVER.fullmatch(version)
        if wanted is None or found is None:
            return False
        low, high = _numbers(wanted), _numbers(found)
        if found[4] is not None:
            return high == low and wanted[4] is not None and _precedence(found[4]) >= _precedence(wanted[4])
        fixed = next((index for index, part in enumerate(low) if part), 2) + 1
        return high[:fixed] == low[:fixed] and high >= low


def _numbers(match: re.Match[str]) -> tuple[int, ...]:
    return int(match[1]), int(match[2]), int(match[3])


def _precedence(pre_release: str) -> _Precedence:
    """Numbers before words, numbers by size, words by their letters, and more parts after fewer."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre_release.split("."))
