"""What the files beside it still tell of an environment whose document is lost or cannot be trusted.

Less than the document did, but enough that restoring an old one brings no removed key back and begins no chain of
revenue policies anew.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator

from greentic.spec import policy_files
from greentic.spec.environment import Environment, RetiredPolicy
from greentic.spec.errors import GreenticError
from greentic.spec.parsing import parse, parse_json
from greentic.spec.trust_root import TrustRootDocument
from greentic.store import trust_file
from greentic.store.contract import Files

_SIGNED = re.compile(r"(.+)/v([1-9][0-9]{0,18})\.json\.sig")


def of(files: Files, backup: Environment) -> Environment:
    """The environment of `backup` with the trust root and the revenue policies that stand among `files`."""
    return backup.model_copy(
        update={
            "trust_root": _trust_root(files) or backup.trust_root,
            "bundles": (),
            "retired_policies": tuple(_policies(files)),
        }
    )


def _trust_root(files: Files) -> TrustRootDocument | None:
    try:
        data = files.read(trust_file.FILE)
        if data is None:
            return None
        return parse(TrustRootDocument, parse_json(data, trust_file.FILE), trust_file.FILE)
    except GreenticError:
        return None


def _policies(files: Files) -> Iterator[RetiredPolicy]:
    """The newest version of each pair that has one; one that a crash left uncommitted counts too."""
    pairs: dict[str, list[int]] = defaultdict(list)
    for path in files.names(policy_files.FOLDER):
        match = _SIGNED.fullmatch(path)
        if match is not None:
            pairs[match[1]].append(int(match[2]))
    for pair, versions in sorted(pairs.items()):
        for version in sorted(versions, reverse=True):
            try:
                found = json.loads(files.read(f"{pair}/v{version}.json") or b"{}")
                yield RetiredPolicy(
                    bundle_id=found["bundle_id"],
                    customer_id=found["customer_id"],
                    revenue_policy_ref=policy_files.signature_ref(found["bundle_id"], found["customer_id"], version),
                )
            except (ValueError, KeyError, TypeError, GreenticError):
                continue
            break
