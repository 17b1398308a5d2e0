"""What `config set` is asked (reference 01, section 3.4)."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from greentic.spec.environment import ListenAddress, PublicBaseUrl
from greentic.spec.parsing import Flag, Payload, Text

HOST_SETTINGS = ("region", "tenant_org_id", "listen_addr", "public_base_url", "gui_enabled", "stamp_revision")


class SetConfigPayload(Payload):
    """Host settings: an absent or null field is kept, one that `clear` names is unset."""

    name: Text | None = None
    region: Text | None = None
    tenant_org_id: Text | None = None
    listen_addr: ListenAddress | None = None
    public_base_url: PublicBaseUrl | None = None
    gui_enabled: Flag | None = None
    stamp_revision: Flag | None = None
    clear: tuple[Text, ...] = ()

    @field_validator("clear")
    @classmethod
    def _clearable(cls, value: tuple[str, ...], info: Any) -> tuple[str, ...]:
        for field in value:
            if field not in HOST_SETTINGS:
                raise ValueError(f"can hold only {', '.join(HOST_SETTINGS)}")
            if info.data.get(field) is not None:
                raise ValueError(f"names {field}, which is set by the same request")
        return value
