"""Signed revenue policies: who gets which share of a deployment's revenue, version after version (reference 02, 10).

A version is a document (`greentic.revenue-policy.v1`) and a DSSE envelope over a statement about its exact bytes. It
names the version before, and its signature names the digest of that version's bytes (`previous_version_digest`, ours):
whoever signs a version vouches for all before it. So a key can be removed without making the past unprovable: what a
removed key signed stays proven as far as a later version, signed by a trusted key, vouches for it, and no further.

Versions are only ever added. A pair of bundle and customer that comes back after its deployment was removed goes on
counting where it stopped, under the new deployment's id.
"""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from itertools import zip_longest

from greentic.spec import policy_files
from greentic.spec.deployment import BundleDeployment, RevenueShare
from greentic.spec.errors import GreenticError, SpecViolation
from greentic.spec.identifiers import (
    BASIS_POINTS,
)
from greentic.spec.integrity import content_digest
from greentic.spec.parsing import parse, parse_json
from greentic.spec.revenue import PREDICATE, SCHEMA, RevenuePolicyDocument, RevenuePolicyPredicate
from greentic.trust import dsse, statement
from greentic.trust.errors import RevenuePolicyError
from greentic.trust.keys import OperatorKey
from greentic.trust.public import PublicKey
from greentic.trust.root import TrustRoot, require_operator
from greentic.trust.statement import Signed

MAX_BYTES = 1024 * 1024
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SignedVersion:
    """A version as it is kept: the document, its exact bytes and those of its envelope, and where both go."""

    document: RevenuePolicyDocument
    document_bytes: bytes
    envelope_bytes: bytes

    @property
    def files(self) -> tuple[tuple[str, bytes], ...]:
        """(path, bytes) in the order of writing; each must be new, durable, and there before the ref is committed."""
        return (
            (self.document.document_ref, self.document_bytes),
            (self.document.signature_ref, self.envelope_bytes),
        )


@dataclass(frozen=True, slots=True)
class Link:
    """One proven version. `removed_key`: only removed keys signed it, and a later version vouches for it."""

    version: int
    digest: str
    key_ids: tuple[str, ...]
    removed_key: bool


@dataclass(frozen=True, slots=True)
class BadLink:
    """The first version that is not proven, and why."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a verification saw: the proven versions before the first bad one, oldest first."""

    links: tuple[Link, ...]
    finding: BadLink | None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.finding is None


def read(data: bytes, what: str = "the revenue policy") -> RevenuePolicyDocument:
    """The document in its stored bytes; RevenuePolicyError when it is malformed or the shares are not a whole."""
    if len(data) > MAX_BYTES:
        raise RevenuePolicyError(f"{what} is larger than {MAX_BYTES:,} bytes")
    try:
        document = parse(RevenuePolicyDocument, parse_json(data, what), what)
    except SpecViolation as error:
        raise RevenuePolicyError(error.message, details=error.details) from None
    _must_be_whole(document.revenue_share, what)
    return document


def next_version(
    previous: RevenuePolicyDocument | None,
    deployment: BundleDeployment,
    share: tuple[RevenueShare, ...],
    now: str,
) -> RevenuePolicyDocument:
    """The version that follows `previous` (None: the first), at the time `now` (RFC 3339).

    `previous` is what the deployment's committed `revenue_policy_ref` names, never the newest file that lies around.
    It may be of an earlier deployment of the same bundle and customer. RevenuePolicyError when it is of another pair,
    when the shares do not sum to 10,000 basis points or name a party twice, or when no version is left;
    InvalidArgument when an id is empty.
    """
    _must_be_whole(share, "the new revenue policy")
    parties = [entry.party_id for entry in share]
    if len(set(parties)) != len(parties):
        raise RevenuePolicyError("a party stands twice in the revenue share")
    pair = (deployment.env_id, deployment.bundle_id, deployment.customer_id)
    if previous is not None and (previous.env_id, previous.bundle_id, previous.customer_id) != pair:
        raise RevenuePolicyError("the revenue policy before is that of another bundle, customer or environment")
    if previous is not None and previous.version == _MAX_VERSION:
        raise RevenuePolicyError("the revenue policy has no version left")
    version = 1 if previous is None else previous.version + 1
    document = {
        "schema": SCHEMA,
        "version": version,
        "deployment_id": deployment.deployment_id,
        "env_id": deployment.env_id,
        "bundle_id": deployment.bundle_id,
        "customer_id": deployment.customer_id,
        "revenue_share": [entry.to_json() for entry in share],
        "created_at": now,
    }
    reference = _expected_previous(deployment.bundle_id, deployment.customer_id, version)
    if reference is not None:
        document["previous_version_ref"] = reference
    return parse(RevenuePolicyDocument, document, "the new revenue policy")


def sign(
    document: RevenuePolicyDocument,
    previous: tuple[bytes, bytes] | None,
    key: OperatorKey,
    root: TrustRoot,
    now: str,
) -> SignedVersion:
    """`document` signed at the time `now` (RFC 3339) and verified again as any reader would.

    `previous` are the stored bytes of the version before, document and envelope, which this signature vouches for: they
    are verified first, so that a forgery is never taken into the chain. None for the first version.
    OperatorKeyNotTrusted before anything is made when `root` does not hold `key`; RevenuePolicyError when `document`
    does not follow from `previous`, or `previous` is not proven.
    """
    require_operator(root, key.public)
    digest = None
    if previous is not None:
        before = read(previous[0], "the revenue policy before")
        _must_follow(document, before)
        _signed(before, *previous, (*root.trusted(), *root.once_trusted()))
        digest = content_digest(previous[0])
    elif document.version != 1:
        raise RevenuePolicyError(f"version {document.version} of a revenue policy needs the one before it")
    predicate = RevenuePolicyPredicate(
        deployment_id=document.deployment_id,
        env_id=document.env_id,
        bundle_id=document.bundle_id,
        customer_id=document.customer_id,
        version=document.version,
        previous_version_ref=document.previous_version_ref,
        previous_version_digest=digest,
        signed_at=now,
    )
    data = document.to_bytes()
    claim = statement.about(f"v{document.version}.json", content_digest(data), PREDICATE, predicate.to_json())
    version = SignedVersion(document, data, statement.sign(claim, key).to_bytes())
    verify(version.document_bytes, version.envelope_bytes, root)
    return version


def verify(document: bytes, envelope: bytes, root: TrustRoot) -> tuple[RevenuePolicyDocument, tuple[str, ...]]:
    """(the document, the ids of the trusted keys that signed it) of one version's stored bytes.

    Looks at this version alone, see `verify_chain`. RevenuePolicyError when it is not proven, with the cause's kind and
    reason in `details`.
    """
    found = read(document)
    return found, _signed(found, document, envelope, root.trusted())[0].key_ids


def verify_chain(
    documents: Ordered[bytes | None],
    envelopes: Ordered[bytes | None],
    root: TrustRoot,
    *,
    deployment: BundleDeployment | None = None,
) -> ChainReport:
    """Check all versions of one bundle and customer, from version 1 on, and name the first that is not proven.

    `documents` and `envelopes` are stored bytes, in order, None for what is missing. Each version must be the next one
    of the same environment, bundle and customer, name the one before and its digest, and be signed by a trusted key, or
    by a removed one with a later version that vouches for it. With `deployment`, the newest version must be the one to
    which it refers and hold its shares: only that shows a chain whose newest versions were taken away, or that is
    another customer's. A version that the reference signed names no digest of the one before and therefore does not
    vouch for it. Never raises for what stands in the bytes.
    """
    proven: list[tuple[Link, str | None]] = []
    before: RevenuePolicyDocument | None = None
    finding: BadLink | None = None
    for number, (document, envelope) in enumerate(zip_longest(documents, envelopes), start=1):
        try:
            before, link, vouched = _link(number, document, envelope, before, proven, root)
        except GreenticError as error:
            finding = BadLink(number, error.message)
            break
        proven.append((link, vouched))
    unvouched = _unvouched(proven)
    links = tuple(link for link, _ in proven if unvouched is None or link.version < unvouched.version)
    # What a broken version would have vouched for is unproven too, but the break is what has to be looked at.
    finding = finding or unvouched or _not_current(before, deployment)
    return ChainReport(links if finding is None else links[: finding.version - 1], finding)


def _link(
    number: int,
    document: bytes | None,
    envelope: bytes | None,
    before: RevenuePolicyDocument | None,
    proven: list[tuple[Link, str | None]],
    root: TrustRoot,
) -> tuple[RevenuePolicyDocument, Link, str | None]:
    """(the version, as a link, the digest of the one before that it vouches for); GreenticError when it is bad."""
    if document is None or envelope is None:
        raise RevenuePolicyError(f"its {'document' if document is None else 'signature'} is missing")
    found = read(document)
    if found.version != number:
        raise RevenuePolicyError(f"version {found.version} stands where version {number} belongs")
    if before is not None:
        _must_follow(found, before)
    elif found.previous_version_ref is not None:
        raise RevenuePolicyError("the first version names one before it")
    signed, predicate = _signed(found, document, envelope, (*root.trusted(), *root.once_trusted()))
    vouched = predicate.previous_version_digest
    if vouched is not None and (not proven or vouched != proven[-1][0].digest):
        raise RevenuePolicyError("the version before it is not the one that its signature vouches for")
    removed = not any(root.trusts(key_id) for key_id in signed.key_ids)
    return found, Link(number, content_digest(document), signed.key_ids, removed), vouched


def _unvouched(proven: list[tuple[Link, str | None]]) -> BadLink | None:
    """The first version that only removed keys signed and that no proven later version vouches for."""
    first = None
    vouched = False
    for link, digest in reversed(proven):
        good = vouched or not link.removed_key
        if not good:
            first = link
        vouched = good and digest is not None
    if first is None:
        return None
    return BadLink(first.version, f"only a removed key signed it ({', '.join(first.key_ids)}) and none vouches for it")


def _not_current(newest: RevenuePolicyDocument | None, deployment: BundleDeployment | None) -> BadLink | None:
    """How the newest version differs from what the deployment refers to."""
    if deployment is None:
        return None
    if newest is None:
        committed = policy_files.version_of(deployment.revenue_policy_ref, deployment.bundle_id, deployment.customer_id)
        return BadLink(1, "it is missing, and the deployment refers to it or a later one") if committed else None
    if (newest.env_id, newest.bundle_id, newest.customer_id, newest.deployment_id) != (
        deployment.env_id,
        deployment.bundle_id,
        deployment.customer_id,
        deployment.deployment_id,
    ):
        return BadLink(newest.version, f"it is not a policy of the deployment {deployment.deployment_id}")
    committed = policy_files.version_of(deployment.revenue_policy_ref, deployment.bundle_id, deployment.customer_id)
    if committed != newest.version:
        missing = committed is not None and committed > newest.version
        reason = f"the deployment refers to {f'version {committed}' if committed else 'no version'}"
        return BadLink(newest.version + 1 if missing else newest.version, reason)
    if newest.revenue_share != deployment.revenue_share:
        return BadLink(newest.version, "the deployment's shares are not those that were signed")
    return None


def _signed(
    document: RevenuePolicyDocument, data: bytes, envelope: bytes, trusted: tuple[PublicKey, ...]
) -> tuple[Signed, RevenuePolicyPredicate]:
    """The statement over exactly the bytes `data`, and its predicate; RevenuePolicyError when one does not fit."""
    what = f"version {document.version} of the revenue policy"
    try:
        signed = statement.verify(dsse.read(envelope, f"the signature of {what}"), trusted, PREDICATE)
        predicate = parse(RevenuePolicyPredicate, signed.statement.predicate, "the predicate")
    except GreenticError as error:
        raise RevenuePolicyError(
            f"{what} is not proven: {error.message}",
            details={**error.details, "cause": error.kind},
            next_step=error.next_step,
        ) from None
    if not statement.subject_matches(signed.statement, content_digest(data)):
        raise RevenuePolicyError(f"{what} is not proven: the signature is over other bytes")
    for field in ("deployment_id", "env_id", "bundle_id", "customer_id", "version", "previous_version_ref"):
        if getattr(predicate, field) != getattr(document, field):
            raise RevenuePolicyError(f"{what} is not proven: the signature names another {field}")
    return signed, predicate


def _must_follow(document: RevenuePolicyDocument, before: RevenuePolicyDocument) -> None:
    if document.version != before.version + 1:
        raise RevenuePolicyError(f"version {document.version} does not follow version {before.version}")
    for field in ("env_id", "bundle_id", "customer_id"):
        if getattr(document, field) != getattr(before, field):
            raise RevenuePolicyError(f"its {field} is not that of the version before")
    expected = _expected_previous(document.bundle_id, document.customer_id, document.version)
    named = document.previous_version_ref
    if expected is None or named is None or named not in {expected, expected.removesuffix(".sig")}:
        raise RevenuePolicyError("it does not name the version before it")


def _expected_previous(bundle_id: str, customer_id: str, version: int) -> str | None:
    """Built from the ids, never copied from a document."""
    reference = policy_files.signature_ref(bundle_id, customer_id, max(1, version - 1))
    return None if version == 1 else reference


def _must_be_whole(share: tuple[RevenueShare, ...], what: str) -> None:
    total = sum(entry.basis_points for entry in share)
    if total != BASIS_POINTS:
        raise RevenuePolicyError(f"{what}: the shares sum to {total:,} basis points, not {BASIS_POINTS:,}")
