"""A bundle that was revoked: neither staged nor warmed any more, in words that say why; what runs is not touched."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.command_line import CommandLine

from greentic.spec.integrity import content_digest

SINCE = "2026-11-01T00:00:00Z"


def revoke(home: Path, *digests: str) -> None:
    entries = [{"kind": "bundle", "subject": one, "since": SINCE, "reason": "leaks a key"} for one in digests]
    (home / "revocations.json").write_text(json.dumps({"schema": "greentic.revocations.v1", "entries": entries}))


def test_a_revoked_bundle_goes_nowhere(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    home = gtc.root / "local"
    digest = content_digest(bundles["v2"].read_bytes())
    revoke(home, digest)
    assert gtc("op", "env-packs", "add", "revocation", "greentic.revocation.file").status == 0
    assert gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").status == 0, "only what is listed is revoked"
    before = gtc("op", "revisions", "list", "web").result
    refused = gtc("op", "deploy", "--bundle", str(bundles["v2"]), "web")
    assert refused.status == 6
    assert refused.error["message"] == f"the bundle {digest} is revoked since {SINCE}: leaks a key"
    assert gtc("op", "revisions", "list", "web").result == before, "it was not staged"
    # One that was staged before it was revoked is not warmed.
    revoke(home)
    assert gtc("op", "revisions", "stage", "web", "--bundle", str(bundles["v2"])).status == 0
    revoke(home, digest)
    assert gtc("op", "revisions", "warm", "web", "v2").status == 6
    # A list that cannot be read allows nothing, and takes nothing away.
    (home / "revocations.json").unlink()
    refused = gtc("op", "revisions", "warm", "web", "v2")
    assert refused.status != 0
    assert "revocations.json" in refused.error["message"]
    assert gtc.get()[1]["version"] == "1.0.0"
    # Taken back, it is a bundle as any other.
    revoke(home)
    assert gtc("op", "revisions", "warm", "web", "v2").status == 0
    assert gtc("stop").status == 0
