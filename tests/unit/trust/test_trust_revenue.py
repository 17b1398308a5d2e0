"""Revenue policies: their bytes, their paths, and the chain that names its first bad version."""

from __future__ import annotations

import json
from typing import Any

import pytest

from greentic.spec import policy_files
from greentic.spec.deployment import BundleDeployment, RevenueShare
from greentic.spec.errors import InvalidArgument
from greentic.spec.integrity import content_digest
from greentic.trust import dsse, revenue, statement
from greentic.trust import root as trust_root
from greentic.trust.errors import OperatorKeyNotTrusted, RevenuePolicyError
from greentic.trust.keys import OperatorKey
from greentic.trust.revenue import BadLink, RevenuePolicyDocument, SignedVersion
from greentic.trust.root import AddTrustedKeyPayload, TrustRoot

ALICE = OperatorKey.from_seed(b"\1" * 32)
BOB = OperatorKey.from_seed(b"\2" * 32)
NOW = "2026-07-24T10:00:00Z"
FIRST = "01J0000000000000000000000A"
SECOND = "01J0000000000000000000000B"


def trusting(*keys: OperatorKey) -> TrustRoot:
    root = trust_root.empty()
    for key in keys:
        root = trust_root.add(root, AddTrustedKeyPayload(key_id=key.key_id, public_key_pem=key.public_pem)).root
    return root


def without(root: TrustRoot, key: OperatorKey) -> TrustRoot:
    return trust_root.remove(root, key.key_id, NOW).root


def shares(*points: int) -> tuple[RevenueShare, ...]:
    return tuple(RevenueShare(party_id=f"party-{number}", basis_points=value) for number, value in enumerate(points))


def deployed(**changes: Any) -> BundleDeployment:
    fields = {
        "deployment_id": FIRST, "env_id": "prod", "bundle_id": "helpdesk", "customer_id": "zain", "status": "active",
        "route_binding": {}, "revenue_share": shares(10_000), "revenue_policy_ref": "", "created_at": NOW,
    }  # fmt: skip
    return BundleDeployment.model_validate({**fields, **changes})


def chain(*keys: OperatorKey, root: TrustRoot | None = None, **changes: Any) -> list[SignedVersion]:
    """A version signed by each of `keys` in turn; shares differ from version to version."""
    root = root or trusting(ALICE, BOB)
    versions: list[SignedVersion] = []
    for number, key in enumerate(keys):
        before = versions[-1] if versions else None
        document = revenue.next_version(
            before.document if before else None, deployed(**changes), shares(10_000 - number, number), NOW
        )
        pair = (before.document_bytes, before.envelope_bytes) if before else None
        versions.append(revenue.sign(document, pair, key, root, NOW))
    return versions


def checked(versions: list[SignedVersion], root: TrustRoot, **anchor: Any) -> revenue.ChainReport:
    documents = [version.document_bytes for version in versions]
    return revenue.verify_chain(documents, [version.envelope_bytes for version in versions], root, **anchor)


def committed(versions: list[SignedVersion], **changes: Any) -> BundleDeployment:
    newest = versions[-1].document
    return deployed(revenue_policy_ref=newest.signature_ref, revenue_share=newest.revenue_share, **changes)


def forged(key: OperatorKey, document: bytes, name: str = "v1.json", **predicate: Any) -> bytes:
    """An envelope by `key` over `document` with fields of its predicate replaced (None: left out)."""
    found = json.loads(document)
    said = {
        "schema": revenue.PREDICATE,
        **{name: found[name] for name in ("deployment_id", "env_id", "bundle_id", "customer_id", "version")},
        **({"previous_version_ref": found["previous_version_ref"]} if "previous_version_ref" in found else {}),
        "signed_at": NOW,
        **predicate,
    }
    said = {key: value for key, value in said.items() if value is not None}
    claim = statement.about(name, content_digest(document), revenue.PREDICATE, said)
    return statement.sign(claim, key).to_bytes()


class TestBytes:
    def test_the_document(self) -> None:
        first, second = chain(ALICE, ALICE)
        assert first.document_bytes.decode() == (
            "{\n"
            '  "schema": "greentic.revenue-policy.v1",\n'
            '  "version": 1,\n'
            f'  "deployment_id": "{FIRST}",\n'
            '  "env_id": "prod",\n'
            '  "bundle_id": "helpdesk",\n'
            '  "customer_id": "zain",\n'
            '  "revenue_share": [\n'
            "    {\n"
            '      "party_id": "party-0",\n'
            '      "basis_points": 10000\n'
            "    },\n"
            "    {\n"
            '      "party_id": "party-1",\n'
            '      "basis_points": 0\n'
            "    }\n"
            "  ],\n"
            f'  "created_at": "{NOW}"\n'
            "}"
        )
        assert list(json.loads(second.document_bytes))[-1] == "previous_version_ref"
        assert second.document.previous_version_ref == "billing-policies/helpdesk/zain/v1.json.sig"

    def test_the_statement(self) -> None:
        first, second = chain(ALICE, ALICE)
        payload = json.loads(dsse.verify(dsse.read(second.envelope_bytes), [ALICE.public]).payload)
        assert payload == {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "v2.json", "digest": {"sha256": content_digest(second.document_bytes)[7:]}}],
            "predicateType": "greentic.revenue-policy-predicate.v1",
            "predicate": {
                "schema": "greentic.revenue-policy-predicate.v1",
                "deployment_id": FIRST,
                "env_id": "prod",
                "bundle_id": "helpdesk",
                "customer_id": "zain",
                "version": 2,
                "previous_version_ref": "billing-policies/helpdesk/zain/v1.json.sig",
                "previous_version_digest": content_digest(first.document_bytes),
                "signed_at": NOW,
            },
        }

    def test_text_is_not_escaped_and_unknown_fields_survive(self) -> None:
        document = json.loads(chain(ALICE)[0].document_bytes) | {"bundle_id": "bücher", "note": {"a": 1}}
        data = json.dumps(document, indent=2, ensure_ascii=False).encode()
        assert revenue.read(data).to_bytes() == data

    def test_files_are_written_document_first(self) -> None:
        assert [ref for ref, _ in chain(ALICE)[0].files] == [
            "billing-policies/helpdesk/zain/v1.json",
            "billing-policies/helpdesk/zain/v1.json.sig",
        ]

    @pytest.mark.parametrize(
        "changes",
        [
            {"schema": "greentic.revenue-policy.v2"}, {"schema": None}, {"version": 0}, {"version": True},
            {"version": "1"}, {"version": 1.0}, {"revenue_share": []}, {"revenue_share": None}, {"created_at": "now"},
            {"revenue_share": [{"party_id": "a", "basis_points": 9_999}]}, {"env_id": ".."},
            {"revenue_share": [{"party_id": "a", "basis_points": 10_001}, {"party_id": "b", "basis_points": -1}]},
        ],
    )  # fmt: skip
    def test_what_is_no_policy(self, changes: dict[str, Any]) -> None:
        document = json.loads(chain(ALICE)[0].document_bytes) | changes
        with pytest.raises(RevenuePolicyError) as caught:
            revenue.read(json.dumps(document).encode())
        assert caught.value.kind == "revenue-policy"


class TestPaths:
    @pytest.mark.parametrize(
        ("identifier", "expected"),
        [
            ("helpdesk", "helpdesk"), ("a.b_c-d~1", "a.b_c-d~1"), (".hidden", ".hidden"), ("...", "..."),
            (".", "%2E"), ("..", "%2E%2E"), ("%2E", "%252E"), ("a/b", "a%2Fb"), ("a\\b", "a%5Cb"), ("a b", "a%20b"),
            ("ü", "%C3%BC"), ("a:b", "a%3Ab"), ("\0", "%00"),
        ],
    )  # fmt: skip
    def test_a_segment(self, identifier: str, expected: str) -> None:
        assert policy_files.segment(identifier) == expected

    def test_long_ids_fit_and_differ(self) -> None:
        names = {policy_files.segment("ü" * 4_000 + end) for end in ("a", "b", "c")}
        assert len(names) == 3
        assert all(len(name) < 220 for name in names)
        assert policy_files.segment("a" * 200) == "a" * 200

    def test_an_empty_id_has_no_path(self) -> None:
        with pytest.raises(InvalidArgument):
            policy_files.segment("")

    @pytest.mark.parametrize(
        ("ref", "version"),
        [
            ("billing-policies/b/c/v1.json.sig", 1), ("billing-policies/b/c/v12.json", 12), ("", None),
            ("billing-policies/b/c/v0.json.sig", None), ("billing-policies/b/c/v01.json.sig", None),
            ("billing-policies/b/c/v1.json.sig\n", None), ("billing-policies/b/x/v1.json.sig", None),
            ("x/billing-policies/b/c/v1.json", None), ("billing-policies/b/c/d/v1.json", None),
            ("billing-policies/b/c/v٣.json", None), ("billing-policies/b/c/v" + "9" * 30 + ".json", None),
        ],
    )  # fmt: skip
    def test_the_version_of_a_reference(self, ref: str, version: int | None) -> None:
        assert policy_files.version_of(ref, "b", "c") == version


class TestWriting:
    def test_an_untrusted_key_makes_nothing(self) -> None:
        document = revenue.next_version(None, deployed(), shares(10_000), NOW)
        for root in (trust_root.empty(), trusting(BOB), without(trusting(ALICE), ALICE)):
            with pytest.raises(OperatorKeyNotTrusted):
                revenue.sign(document, None, ALICE, root, NOW)

    @pytest.mark.parametrize("points", [(9_999,), (10_000, 1), ()])
    def test_shares_are_a_whole(self, points: tuple[int, ...]) -> None:
        with pytest.raises(RevenuePolicyError, match="sum to"):
            revenue.next_version(None, deployed(), shares(*points), NOW)

    def test_a_party_stands_once(self) -> None:
        with pytest.raises(RevenuePolicyError, match="twice"):
            revenue.next_version(None, deployed(), shares(5_000) * 2, NOW)

    @pytest.mark.parametrize("field", ["env_id", "bundle_id", "customer_id"])
    def test_a_version_follows_its_own_kind(self, field: str) -> None:
        (first,) = chain(ALICE)
        with pytest.raises(RevenuePolicyError, match="another"):
            revenue.next_version(first.document, deployed(**{field: "other"}), shares(10_000), NOW)

    def test_an_empty_id_is_refused(self) -> None:
        with pytest.raises(InvalidArgument):
            revenue.next_version(None, deployed(customer_id=""), shares(10_000), NOW)

    def test_versions_end(self) -> None:
        (first,) = chain(ALICE)
        last = first.document.model_copy(update={"version": 2**63 - 1})
        with pytest.raises(RevenuePolicyError, match="no version left"):
            revenue.next_version(last, deployed(), shares(10_000), NOW)

    def test_a_second_version_needs_the_first(self) -> None:
        second = chain(ALICE, ALICE)[1]
        with pytest.raises(RevenuePolicyError, match="needs the one before"):
            revenue.sign(second.document, None, ALICE, trusting(ALICE), NOW)
        pair = (second.document_bytes, second.envelope_bytes)
        with pytest.raises(RevenuePolicyError, match="does not follow"):
            revenue.sign(second.document, pair, ALICE, trusting(ALICE, BOB), NOW)

    def test_a_forged_predecessor_is_not_vouched_for(self) -> None:
        first, second = chain(ALICE, ALICE)
        mallory = OperatorKey.from_seed(b"\3" * 32)
        for pair in (
            (first.document_bytes.replace(b"10000", b"9999").replace(b": 0", b": 1"), first.envelope_bytes),
            (first.document_bytes, forged(mallory, first.document_bytes)),
        ):
            with pytest.raises(RevenuePolicyError, match="not proven"):
                revenue.sign(second.document, pair, ALICE, trusting(ALICE), NOW)


class TestOneVersion:
    def test_it_is_proven(self) -> None:
        (first,) = chain(ALICE)
        document, key_ids = revenue.verify(first.document_bytes, first.envelope_bytes, trusting(ALICE))
        assert document == first.document
        assert key_ids == (ALICE.key_id,)

    def test_a_removed_key_proves_no_single_version(self) -> None:
        (first,) = chain(ALICE)
        with pytest.raises(RevenuePolicyError, match="no trusted key") as caught:
            revenue.verify(first.document_bytes, first.envelope_bytes, without(trusting(ALICE), ALICE))
        assert caught.value.details["cause"] == "trust-root"

    @pytest.mark.parametrize(
        "said",
        [
            {"deployment_id": SECOND}, {"env_id": "dev"}, {"bundle_id": "x"}, {"customer_id": "x"}, {"version": 2},
            {"version": True}, {"previous_version_ref": "x"}, {"schema": "other"}, {"schema": None},
            {"signed_at": None}, {"env_id": None},
        ],
    )  # fmt: skip
    def test_a_predicate_that_says_otherwise(self, said: dict[str, Any]) -> None:
        (first,) = chain(ALICE)
        with pytest.raises(RevenuePolicyError, match="not proven"):
            revenue.verify(first.document_bytes, forged(ALICE, first.document_bytes, **said), trusting(ALICE))

    def test_a_signature_of_another_kind(self) -> None:
        (first,) = chain(ALICE)
        claim = statement.about("v1.json", content_digest(first.document_bytes), statement.SLSA_PROVENANCE, {})
        with pytest.raises(RevenuePolicyError, match="slsa"):
            revenue.verify(first.document_bytes, statement.sign(claim, ALICE).to_bytes(), trusting(ALICE))


class TestChain:
    def test_a_sound_chain(self) -> None:
        versions = chain(ALICE, BOB, ALICE)
        report = checked(versions, trusting(ALICE, BOB), deployment=committed(versions))
        assert report.ok
        assert [(link.version, link.key_ids, link.removed_key) for link in report.links] == [
            (1, (ALICE.key_id,), False),
            (2, (BOB.key_id,), False),
            (3, (ALICE.key_id,), False),
        ]

    def test_nothing_is_a_sound_chain_of_a_deployment_without_policy(self) -> None:
        assert checked([], trusting(ALICE)).ok
        assert checked([], trusting(ALICE), deployment=deployed()).ok

    def test_every_changed_file_is_found_at_its_version(self) -> None:
        versions = chain(ALICE, ALICE, ALICE)
        root = trusting(ALICE)
        for number, version in enumerate(versions, start=1):
            changed = version.document_bytes.replace(b'"zain"', b'"zeno"')
            for other in (
                SignedVersion(version.document, changed, version.envelope_bytes),
                SignedVersion(version.document, version.document_bytes + b"\n", version.envelope_bytes),
                SignedVersion(version.document, version.document_bytes, b"{}"),
                SignedVersion(version.document, b"", version.envelope_bytes),
            ):
                report = checked([*versions[: number - 1], other, *versions[number:]], root)
                assert report.finding is not None
                assert report.finding.version == number
                assert len(report.links) == number - 1

    def test_a_missing_order_or_file_is_found(self) -> None:
        first, second, third = chain(ALICE, ALICE, ALICE)
        root = trusting(ALICE)
        assert found(checked([first, third], root)) == 2
        assert found(checked([second, third], root)) == 1
        assert found(checked([first, first], root)) == 2
        pairs = [first, second, third]
        documents = [version.document_bytes for version in pairs]
        envelopes = [version.envelope_bytes for version in pairs]
        report = revenue.verify_chain(documents, envelopes[:2], root)
        assert report.finding == BadLink(3, "its signature is missing")
        assert revenue.verify_chain(documents[:1], envelopes, root).finding == BadLink(2, "its document is missing")

    def test_a_rewritten_predecessor_is_found_by_its_digest(self) -> None:
        # A trusted signer writes version 1 anew; version 2 vouches for the old one.
        first, second = chain(ALICE, ALICE)
        data = first.document_bytes.replace(b"party-0", b"party-9")
        other = SignedVersion(first.document, data, forged(ALICE, data))
        assert checked([other], trusting(ALICE)).ok
        assert found(checked([other, second], trusting(ALICE))) == 2

    def test_another_customers_chain_is_found(self) -> None:
        mine, theirs = chain(ALICE, ALICE), chain(ALICE, ALICE, customer_id="other")
        assert found(checked([mine[0], theirs[1]], trusting(ALICE))) == 2
        assert found(checked(theirs, trusting(ALICE), deployment=committed(mine))) == 2

    def test_a_shortened_chain_is_found_by_the_deployment(self) -> None:
        versions = chain(ALICE, ALICE, ALICE)
        root = trusting(ALICE)
        assert checked(versions[:2], root).ok
        assert found(checked(versions[:2], root, deployment=committed(versions))) == 3
        assert found(checked([], root, deployment=committed(versions))) == 1
        assert found(checked(versions, root, deployment=committed(versions[:2]))) == 3
        other = committed(versions, deployment_id=SECOND)
        assert found(checked(versions, root, deployment=other)) == 3
        shared = deployed(revenue_policy_ref=versions[2].document.signature_ref)
        assert found(checked(versions, root, deployment=shared)) == 3

    def test_the_past_of_a_removed_key_stands_while_someone_vouches(self) -> None:
        root = trusting(ALICE, BOB)
        versions = chain(ALICE, ALICE, BOB, root=root)
        report = checked(versions, without(root, ALICE))
        assert report.ok
        assert [link.removed_key for link in report.links] == [True, True, False]

    def test_a_removed_key_authorises_nothing_after_the_last_voucher(self) -> None:
        root = trusting(ALICE, BOB)
        versions = chain(BOB, ALICE, ALICE, root=root)
        report = checked(versions, without(root, ALICE))
        assert found(report) == 2
        assert [link.version for link in report.links] == [1]
        assert found(checked(versions, without(without(root, ALICE), BOB))) == 1

    def test_a_key_that_was_never_trusted_is_not_vouched_for(self) -> None:
        root = trusting(ALICE, BOB)
        versions = chain(ALICE, BOB, root=root)
        assert found(checked(versions, trusting(BOB))) == 1

    def test_a_removed_key_can_be_followed_by_a_trusted_one(self) -> None:
        root = trusting(ALICE, BOB)
        versions = chain(ALICE, ALICE, root=root)
        later = without(root, ALICE)
        assert not checked(versions, later).ok
        document = revenue.next_version(versions[-1].document, deployed(), shares(10_000), NOW)
        pair = (versions[-1].document_bytes, versions[-1].envelope_bytes)
        assert checked([*versions, revenue.sign(document, pair, BOB, later, NOW)], later).ok

    def test_a_trusted_version_that_names_no_digest_vouches_for_nothing(self) -> None:
        root = trusting(ALICE, BOB)
        first, second = chain(ALICE, BOB, root=root)
        silent = SignedVersion(second.document, second.document_bytes, forged(BOB, second.document_bytes, "v2.json"))
        assert checked([first, second], without(root, ALICE)).ok
        assert found(checked([first, silent], without(root, ALICE))) == 1

    def test_the_first_version_names_none_before_it(self) -> None:
        data = chain(ALICE, ALICE)[1].document_bytes.replace(b'"version": 2', b'"version": 1')
        first = SignedVersion(revenue.read(data), data, forged(ALICE, data))
        assert revenue.verify(data, first.envelope_bytes, trusting(ALICE))
        assert checked([first], trusting(ALICE)).finding == BadLink(1, "the first version names one before it")

    def test_a_broken_voucher_proves_nothing_before_it(self) -> None:
        root = trusting(ALICE, BOB)
        versions = chain(ALICE, BOB, root=root)
        broken = SignedVersion(versions[1].document, versions[1].document_bytes + b" ", versions[1].envelope_bytes)
        report = checked([versions[0], broken], without(root, ALICE))
        assert found(report) == 2
        assert report.links == ()

    def test_a_chain_of_the_reference_is_read(self) -> None:
        # It signs no digest of the version before.
        versions = []
        for number, version in enumerate(chain(ALICE, ALICE), start=1):
            envelope = forged(ALICE, version.document_bytes, f"v{number}.json")
            versions.append(SignedVersion(version.document, version.document_bytes, envelope))
        assert checked(versions, trusting(ALICE)).ok
        data = versions[1].document_bytes.replace(b"v1.json.sig", b"v1.json")
        plain = SignedVersion(versions[1].document, data, forged(ALICE, data, "v2.json"))
        assert checked([versions[0], plain], trusting(ALICE)).ok

    def test_a_pair_that_returns_goes_on_counting(self) -> None:
        first = chain(ALICE)[0]
        again = deployed(deployment_id=SECOND)
        document = revenue.next_version(first.document, again, shares(10_000), NOW)
        assert document.version == 2
        second = revenue.sign(document, (first.document_bytes, first.envelope_bytes), ALICE, trusting(ALICE), NOW)
        assert checked([first, second], trusting(ALICE), deployment=committed([second], deployment_id=SECOND)).ok

    @pytest.mark.parametrize("customer", ["..", "a/b", "ü" * 500, "%2E", " "])
    def test_ids_that_need_encoding(self, customer: str) -> None:
        versions = chain(ALICE, ALICE, customer_id=customer)
        assert checked(versions, trusting(ALICE), deployment=committed(versions, customer_id=customer)).ok


def found(report: revenue.ChainReport) -> int:
    assert report.finding is not None
    return report.finding.version


def test_a_document_is_not_changed_by_reading() -> None:
    for version in chain(ALICE, BOB):
        assert (
            RevenuePolicyDocument.model_validate(json.loads(version.document_bytes)).to_bytes()
            == version.document_bytes
        )
