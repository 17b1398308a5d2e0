"""Steps for the section `updates`: whom the updates are trusted from, and the channel they come through. Pure."""

from __future__ import annotations

import json

from greentic.operations.manifest.bundles import Keyed
from greentic.operations.manifest.inputs import Recorded
from greentic.operations.manifest.plan import Action, Step
from greentic.operations.manifest.tasks import ConfigureUpdates, TrustDid
from greentic.spec.manifest import Manifest, UpdatesSection
from greentic.spec.update_channel import (
    DEFAULT_TRUST_DID,
    ConfigureUpdatesPayload,
    UpdateAction,
    configured,
)


def update_steps(manifest: Manifest, recorded: Recorded, keyed: Keyed) -> list[Step]:
    """Nothing when the section is not there; what it does not name stays (reference 01, section 5.4: last of all)."""
    section = manifest.updates
    if section is None:
        return []
    name = manifest.environment.id
    payload = _payload(section)
    before = None if recorded.channel is None else recorded.channel.to_json()
    after = configured(recorded.channel, name, payload).to_json()
    steps = _trust(section, recorded, name, keyed)
    if before == after:
        return [*steps, Step("configure-updates", name, Action.NONE, "the update channel is as described")]
    changed = {key: value for key, value in after.items() if before is None or before.get(key) != value}
    words = ", ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in changed.items()
        if key not in {"schema", "environment_id"}
    )
    step = Step(
        "configure-updates",
        name,
        Action.CREATE if before is None else Action.UPDATE,
        f"updates: {words}",
        {"before": {key: (before or {}).get(key) for key in changed}, "after": changed},
        keyed("configure-updates", name, after),
        ConfigureUpdates(payload),
    )
    return [*steps, step]


def unverifiable(manifest: Manifest, recorded: Recorded) -> list[str]:
    """A warning when the fleet's channel is taken without a word of whom to trust.

    The reference trusts the fleet's keys then. Whom an environment trusts is nothing to be taken for granted: here
    somebody says it, or the keys are trusted by hand.
    """
    section = manifest.updates
    if section is None or not section.enabled or "trust_did" in section.model_fields_set or recorded.dids:
        return []
    return [
        f"updates: nobody is trusted for them yet: write trust_did: {DEFAULT_TRUST_DID}, or null to trust keys by hand"
    ]


def _payload(section: UpdatesSection) -> ConfigureUpdatesPayload:
    return ConfigureUpdatesPayload(
        enabled=section.enabled,
        on_notify=None if section.on_notify is None else UpdateAction.parse(section.on_notify),
        poll_interval_secs=section.poll_interval_secs,
        plan_endpoint=section.plan_endpoint,
        push_enabled=section.push_enabled,
        stream_endpoint=section.stream_endpoint,
    )


def _trust(section: UpdatesSection, recorded: Recorded, name: str, keyed: Keyed) -> list[Step]:
    did = section.trust_did
    if did is None:
        return []
    if did in recorded.dids:
        return [Step("trust-did", did, Action.NONE, f"the keys of {did} are trusted")]
    key = keyed("trust-did", name, did)
    return [Step("trust-did", did, Action.CREATE, f"trust the keys of {did}", {}, key, TrustDid(did))]
