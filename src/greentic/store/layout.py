"""How `environment.json` is laid out: canonical JSON with line breaks, one line for each element of a long list.

    {
    "bundles":[
    {"bundle_id":"web",…},
    {"bundle_id":"shop",…}
    ],
    "environment_id":"local",
    …
    }

Without its line breaks the text is the canonical JSON of the document, from which its digest is taken. So a list that a
change leaves alone is copied from the old text to the new as it stands, and of a list that it touches each line whose
element is still the same: ten thousand revisions are not made into text anew because one of them changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from greentic.spec.integrity import canonical_json

SECTIONS = ("bundles", "messaging_endpoints", "revisions", "split_history", "traffic_splits")
"""The lists that grow with an environment; their elements are frozen documents. In the order of the text."""
_BETWEEN = b",\n"


def text(rest: Mapping[str, Any], sections: Mapping[str, bytes]) -> bytes:
    """The document that has the JSON values `rest` and, by name, the lines of those lists that are not empty.

    ValueError for what JSON cannot hold.
    """
    members = (
        b"%s:%s" % (canonical_json(name), b"[\n%s\n]" % sections[name] if name in sections else canonical_json(value))
        for name, value in sorted({**rest, **sections}.items())
    )
    return b"{\n%s\n}" % _BETWEEN.join(members)


def canonical(laid_out: bytes) -> bytes:
    """The canonical JSON of a text that `text` made: no line break of it stands in a string."""
    return laid_out.replace(b"\n", b"")


def sections(laid_out: bytes) -> Iterator[tuple[str, bytes]]:
    """The name and the lines of each of the long lists that is not empty, in a text that `text` made."""
    at = 0
    for name in SECTIONS:
        opening = b'\n"%s":[\n' % name.encode()
        begin = laid_out.find(opening, at)
        if begin >= 0:
            begin += len(opening)
            at = laid_out.index(b"\n]", begin)
            yield name, laid_out[begin:at]


def lines(section: bytes) -> list[bytes]:
    """The canonical JSON of each element of a list."""
    return section.split(_BETWEEN) if section else []


def joined(elements: list[bytes]) -> bytes:
    """The lines of a list, given the canonical JSON of each element."""
    return _BETWEEN.join(elements)
