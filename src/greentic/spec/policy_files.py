"""Where the versions of a revenue policy are kept (reference 02, section 10).

`billing-policies/<bundle>/<customer>/v<N>.json` and its signature, `.sig`, beside it, relative to the environment's
folder. The reference refuses an id that is no safe part of a path; ours may hold anything but nothing at all:

- letters, digits, `.`, `_`, `-` and `~` stand for themselves, so a plain id has the path that the reference gives it;
- every other byte of its UTF-8 is written `%XX`, and so are the dots of `.` and `..`;
- what would be longer than a file name may be keeps its beginning, followed by `%~` and the SHA-256 of the whole id.

Two ids never share a path: `%` always begins two hex digits, or the tilde that no other form has.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from greentic.spec.errors import InvalidArgument

FOLDER = "billing-policies"
_MAX_SEGMENT = 200
"""Bytes; file systems allow 255, and writers need room for a temporary name."""
_KEPT = 100
_CUT = re.compile(r"%[0-9A-F]?\Z")
"""An escape that was cut in two."""
_REF = re.compile(rf"{FOLDER}/([^/]+)/([^/]+)/v([1-9][0-9]{{0,18}})\.json(\.sig)?")


def segment(identifier: str) -> str:
    """The name of the folder of a bundle or customer; InvalidArgument for an empty id."""
    if not identifier:
        raise InvalidArgument("a revenue policy needs a bundle id and a customer id that are not empty")
    encoded = quote(identifier, safe="~", errors="surrogatepass")
    if encoded in {".", ".."}:
        return encoded.replace(".", "%2E")
    if len(encoded) <= _MAX_SEGMENT:
        return encoded
    digest = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()
    beginning = _CUT.sub("", encoded[:_KEPT])
    return f"{beginning}%~{digest}"


def document_ref(bundle_id: str, customer_id: str, version: int) -> str:
    """The path of a version's document."""
    return f"{FOLDER}/{segment(bundle_id)}/{segment(customer_id)}/v{version}.json"


def signature_ref(bundle_id: str, customer_id: str, version: int) -> str:
    """The path of a version's signature: what `revenue_policy_ref` and `previous_version_ref` name."""
    return f"{document_ref(bundle_id, customer_id, version)}.sig"


def version_of(ref: str, bundle_id: str, customer_id: str) -> int | None:
    """The version that a `revenue_policy_ref` of this bundle and customer names; None when it names none of theirs.

    The form without `.sig` is read too: both stand in documents of the reference.
    """
    match = _REF.fullmatch(ref)
    if match is None or (match[1], match[2]) != (segment(bundle_id), segment(customer_id)):
        return None
    return int(match[3])
