"""What `config set` is asked (reference 01, section 3.4)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, field_validator

from greentic.spec.environment import ListenAddress, PublicBaseUrl
from greentic.spec.parsing import Flag, Payload, Text
from greentic.spec.router_settings import FIELDS, RouterSettings, closed

HOST_SETTINGS = ("region", "tenant_org_id", "listen_addr", "public_base_url", "gui_enabled", "stamp_revision")
CLEARABLE = (*HOST_SETTINGS, "router", *(f"router.{field}" for field in FIELDS))


class SetConfigPayload(Payload):
    """Host settings: an absent or null field is kept, one that `clear` names is unset, within `router` too."""

    name: Text | None = None
    region: Text | None = None
    tenant_org_id: Text | None = None
    listen_addr: ListenAddress | None = None
    public_base_url: PublicBaseUrl | None = None
    gui_enabled: Flag | None = None
    stamp_revision: Flag | None = None
    router: Annotated[RouterSettings, AfterValidator(closed)] | None = None
    clear: tuple[Text, ...] = ()

    @field_validator("clear")
    @classmethod
    def _clearable(cls, value: tuple[str, ...], info: Any) -> tuple[str, ...]:
        router = info.data.get("router")
        for field in value:
            if field not in CLEARABLE:
                raise ValueError(f"can hold only {', '.join(CLEARABLE)}")
            within, _, inner = field.partition(".")
            asked = info.data.get(within)
            if asked is not None and (not inner or getattr(router, inner) is not None):
                raise ValueError(f"names {field}, which is set by the same request")
        return value
