"""UpdateChannelConfig (`update-channel.json`) and what it comes to (reference 01, section 1.15)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import Counter, EnvironmentId
from greentic.spec.parsing import Document, Flag, Payload, Text
from greentic.spec.revision import OMITTED

DEFAULT_TRUST_DID = "did:web:trust.greentic.cloud"
DEFAULT_PLAN_ENDPOINT = "https://updates.greentic.cloud/v1/environments/_/plan"
"""Written when a channel is enabled without an endpoint; never assumed when a document is read."""
DEFAULT_POLL_SECONDS = 3_600
LEAST_POLL_SECONDS = 60


MAX_POLL_SECONDS = 30 * 24 * 3600
_HTTPS = re.compile(r"https://[A-Za-z0-9._-]+(:[0-9]{1,5})?(/[!-~]*)?")
_LOOPBACK = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?(/[!-~]*)?")


def _address(value: str) -> str:
    if not _HTTPS.fullmatch(value) and not _LOOPBACK.fullmatch(value):
        raise ValueError("must be an https address, or http to this machine itself")
    return value


ChannelAddress = Annotated[Text, AfterValidator(_address)]


class UpdateAction(StrEnum):
    """What a new plan leads to."""

    RECORD_ONLY = "record_only"
    STAGE = "stage"
    APPLY = "apply"

    @classmethod
    def parse(cls, text: str) -> UpdateAction:
        """The action in `text`, with hyphens or underscores; InvalidArgument otherwise."""
        try:
            return cls(text.strip().lower().replace("-", "_"))
        except ValueError:
            known = ", ".join(action.value.replace("_", "-") for action in cls)
            raise InvalidArgument(f"'{text}' is no action of an update channel; there are {known}") from None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a channel's settings come to. `poll_seconds` between two polls; endpoints None when there are none."""

    enabled: bool
    action: UpdateAction
    poll_seconds: int
    plan_endpoint: str | None
    push_enabled: bool
    stream_endpoint: str | None


class UpdateChannelConfig(Document):
    """Where an environment learns of updates. `on_notify` is the older name of `on_update` and knows no `apply`."""

    schema_: Literal["greentic.update-channel.v1"] = Field("greentic.update-channel.v1", alias="schema")
    environment_id: EnvironmentId
    enabled: Flag | None = OMITTED
    on_notify: Literal["record_only", "stage"] | None = OMITTED
    on_update: UpdateAction | None = OMITTED
    poll_interval_secs: Counter | None = OMITTED
    plan_endpoint: Text | None = OMITTED
    push_enabled: Flag | None = OMITTED
    stream_endpoint: Text | None = OMITTED

    def resolved(self) -> Resolved:
        """The settings with every default filled in; an update is never applied unless the document says so."""
        stream = self.stream_endpoint
        if stream is None and self.plan_endpoint is not None and self.plan_endpoint.endswith("/plan"):
            stream = self.plan_endpoint.removesuffix("/plan") + "/updates/stream"
        poll = DEFAULT_POLL_SECONDS if self.poll_interval_secs is None else self.poll_interval_secs
        return Resolved(
            enabled=bool(self.enabled),
            action=self.on_update or UpdateAction(self.on_notify or UpdateAction.STAGE),
            poll_seconds=max(poll, LEAST_POLL_SECONDS),
            plan_endpoint=self.plan_endpoint,
            push_enabled=True if self.push_enabled is None else self.push_enabled,
            stream_endpoint=stream,
        )

    def with_action(self, action: UpdateAction) -> UpdateChannelConfig:
        """The document with `action` in both fields; older readers see `apply` as `stage`."""
        legacy = "record_only" if action is UpdateAction.RECORD_ONLY else "stage"
        return self.model_copy(update={"on_update": action, "on_notify": legacy})


class ConfigureUpdatesPayload(Payload):
    """Settings of the channel; an absent one is kept (reference 01, `updates config-set`)."""

    enabled: Flag | None = None
    on_notify: UpdateAction | None = None
    poll_interval_secs: Annotated[int, Field(ge=LEAST_POLL_SECONDS, le=MAX_POLL_SECONDS, strict=True)] | None = None
    plan_endpoint: ChannelAddress | None = None
    push_enabled: Flag | None = None
    stream_endpoint: ChannelAddress | None = None


def configured(
    present: UpdateChannelConfig | None, environment_id: str, payload: ConfigureUpdatesPayload
) -> UpdateChannelConfig:
    """The channel after `payload`: what it does not name stays. Enabling without an endpoint writes the default."""
    channel = present or UpdateChannelConfig(environment_id=environment_id)
    named = ("enabled", "poll_interval_secs", "plan_endpoint", "push_enabled", "stream_endpoint")
    changes = {field: value for field in named if (value := getattr(payload, field)) is not None}
    if payload.enabled and payload.plan_endpoint is None and channel.plan_endpoint is None:
        changes["plan_endpoint"] = DEFAULT_PLAN_ENDPOINT
    changed = channel.model_copy(update=changes)
    return changed if payload.on_notify is None else changed.with_action(payload.on_notify)
