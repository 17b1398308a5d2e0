"""What is asked of the routers of an environment beside the dial."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from greentic.spec.identifiers import DeploymentId
from greentic.spec.parsing import Payload


class RotateRouterKeysPayload(Payload):
    """Have another key sign the routers' cookies and tokens."""


class TrustCallerPayload(Payload):
    """Vouch for a caller of one deployment, or of all, for some seconds."""

    deployment_id: DeploymentId | None = None
    seconds: Annotated[int, Field(ge=1, strict=True)]
