"""Revenue policies: who gets which share of a deployment's revenue (reference 01, section 1.12; reference 02, 10)."""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal

from pydantic import Field

from greentic.spec import policy_files
from greentic.spec.deployment import RevenueShare
from greentic.spec.identifiers import BundleId, CustomerId, DeploymentId, EnvironmentId, Sequence, Timestamp
from greentic.spec.parsing import Document, Text
from greentic.spec.revision import OMITTED

SCHEMA: Final = "greentic.revenue-policy.v1"
PREDICATE: Final = "greentic.revenue-policy-predicate.v1"


class RevenuePolicyDocument(Document):
    """One version of a deployment's revenue shares. The field order is that of the bytes that are signed."""

    schema_: Literal["greentic.revenue-policy.v1"] = Field(SCHEMA, alias="schema")
    version: Sequence
    deployment_id: DeploymentId
    env_id: EnvironmentId
    bundle_id: BundleId
    customer_id: CustomerId
    revenue_share: Annotated[tuple[RevenueShare, ...], Field(min_length=1)]
    created_at: Timestamp
    previous_version_ref: Text | None = OMITTED

    def to_bytes(self) -> bytes:
        """What is stored and signed: JSON in field order, indented by two, no newline at the end."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False).encode()

    @property
    def signature_ref(self) -> str:
        """The path of its signature: the deployment's `revenue_policy_ref`."""
        return policy_files.signature_ref(self.bundle_id, self.customer_id, self.version)

    @property
    def document_ref(self) -> str:
        """The path of the document itself."""
        return policy_files.document_ref(self.bundle_id, self.customer_id, self.version)


class RevenuePolicyPredicate(Document):
    """What a signature says of a version; each field must agree with the document."""

    schema_: Literal["greentic.revenue-policy-predicate.v1"] = Field(PREDICATE, alias="schema")
    deployment_id: DeploymentId
    env_id: EnvironmentId
    bundle_id: BundleId
    customer_id: CustomerId
    version: Sequence
    previous_version_ref: Text | None = OMITTED
    previous_version_digest: Text | None = OMITTED
    signed_at: Timestamp
