"""What the files beside it still tell of an environment whose document is lost or cannot be trusted.

Less than the document did, but enough that restoring an old one brings no removed key back and begins no chain of
revenue policies anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from greentic.spec import policy_files
from greentic.spec.environment import Environment, RetiredPolicy
from greentic.spec.errors import GreenticError
from greentic.spec.parsing import parse, parse_json
from greentic.spec.trust_root import TrustRootDocument
from greentic.store import folders, trust_file
from greentic.store.io import read

_SIGNED = re.compile(r"v([1-9][0-9]{0,18})\.json\.sig")


def of(folder: Path, backup: Environment) -> Environment:
    """The environment of `backup` with the trust root and the revenue policies that stand in `folder`."""
    return backup.model_copy(
        update={
            "trust_root": _trust_root(folder) or backup.trust_root,
            "bundles": (),
            "retired_policies": tuple(_policies(folder)),
        }
    )


def _trust_root(folder: Path) -> TrustRootDocument | None:
    data = read(folder / trust_file.FILE)
    if data is None:
        return None
    try:
        return parse(TrustRootDocument, parse_json(data, trust_file.FILE), trust_file.FILE)
    except GreenticError:
        return None


def _policies(folder: Path) -> Iterator[RetiredPolicy]:
    """The newest version of each pair that has a folder; one that a crash left uncommitted counts too."""
    place = folder / policy_files.FOLDER
    if not folders.exists(place):
        return
    for pair in sorted(place.glob("*/*")):
        versions = [int(match[1]) for path in pair.iterdir() if (match := _SIGNED.fullmatch(path.name))]
        for version in sorted(versions, reverse=True):
            try:
                found = json.loads(read(pair / f"v{version}.json") or b"{}")
                yield RetiredPolicy(
                    bundle_id=found["bundle_id"],
                    customer_id=found["customer_id"],
                    revenue_policy_ref=policy_files.signature_ref(found["bundle_id"], found["customer_id"], version),
                )
            except (ValueError, KeyError, TypeError):
                continue
            break
