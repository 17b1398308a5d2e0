"""The health gate of a warming revision: on evidence, not on anybody's word."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from scene import BAD_GATE, ENV, ONE, deployed, ok, refused, stage, warm
from test_access import Keys

from greentic.server import tokens
from greentic.server.doors import GuardedDoor
from greentic.server.health_gate import MAX_AGE, MAX_AHEAD
from greentic.spec.store_access import DataPlaneEntry
from greentic.trust import health
from greentic.trust.keys import OperatorKey

WARM = f"{ENV}/revisions/{ONE}/warm"
OURS = f"{ENV}/verbs/revisions"
PLANE, OTHER, STRANGER = (OperatorKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))


def moment(seconds: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


@pytest.fixture
def scene(env, tmp_path):
    """A revision that warms; the operator's token, one that is believed, and the data planes of two environments."""
    deployment = deployed(env)
    ok(env.ask("POST", f"{ENV}/revisions", stage(deployment, ONE)))
    keys = Keys(tmp_path / "tokens.json")
    env.operator, env.believed = keys("ci", "operator"), keys("old-ci", "operator", vouches_for_health=True)
    for name, key, where in (("plane", PLANE, "local"), ("elsewhere", OTHER, "other")):
        entry = DataPlaneEntry(actor=name, public_key_pem=key.public_pem, env_ids=(where,))
        tokens.add_data_plane(keys.path, entry)
    env.desk.doorkeeper = GuardedDoor(keys.path)
    ok(env.ask("POST", f"{OURS}/begin-warm", {"revision_id": ONE}, token=env.operator))
    return env


def revision(scene):
    return scene.desk.store.load("local").environment.revision(ONE)


def evidence(scene, key=PLANE, state="healthy", seconds=0.0, **changed):
    return health.sign(key, revision(scene).model_copy(update=changed), state, "process 1", moment(seconds))


def asked(scene, *shown, token=None, expected="warming", key="auto", **gate):
    headers = {} if not shown else {health.HEADER.replace("-", "_"): shown[0]}
    return scene.ask("POST", WARM, warm(ONE, expected, **gate), token=token or scene.operator, key=key, **headers)


def test_a_claim_without_evidence_is_refused_and_changes_nothing(scene):
    before = scene.desk.store.load("local")
    body = refused(asked(scene), 403, "unauthorized")
    assert body["policy"] == "health-evidence"
    assert "nobody showed evidence" in body["reason"]
    ours = {"revision_id": ONE, "health_gate": {"ok": True}, "vouched": {"actor": "plane", "key_id": PLANE.key_id}}
    refused(scene.ask("POST", f"{OURS}/warm", ours, token=scene.operator), 403, "unauthorized")
    together = {"steps": [{"noun": "revisions", "verb": "warm", "payload": ours}]}
    refused(scene.ask("POST", f"{ENV}/verbs/changes/apply", together, token=scene.operator), 403, "unauthorized")
    assert scene.desk.store.load("local") == before
    denied = scene.desk.store.events("local")[-1]
    assert (denied["noun"], denied["result"]["kind"]) == ("changes", "unauthorized")


def test_a_data_plane_that_saw_it_is_believed_and_named(scene):
    told = ok(asked(scene, evidence(scene), key="warm"))
    assert told["result"]["revision"]["lifecycle"] == "ready"
    vouched = told["audit"]["target"]["vouched"]
    assert (vouched["actor"], vouched["key_id"]) == ("plane", PLANE.key_id)
    again = ok(asked(scene, key="warm"))  # a repetition needs to show nothing
    assert again["idempotency"] == {"idempotency": "replayed"}


def test_in_our_words_and_in_a_batch_too(scene):
    shown = {health.HEADER.replace("-", "_"): evidence(scene)}
    payload = {"revision_id": ONE, "health_gate": {"ok": True}}
    body = {"steps": [{"noun": "revisions", "verb": "warm", "payload": payload}]}
    ok(scene.ask("POST", f"{ENV}/verbs/changes/apply", body, token=scene.operator, **shown))
    assert revision(scene).lifecycle == "ready"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"key": STRANGER}, "no trusted key signed this"),
        ({"key": OTHER}, "no trusted key signed this"),
        ({"state": "starting"}, "saw it starting"),
        ({"env_id": "other"}, "the evidence is of other/"),
        ({"revision_id": "01J0000000000000000000000Z"}, "the evidence is of local/01J0000000000000000000000Z"),
        ({"bundle_digest": "sha256:" + "b" * 64}, "another attempt, or of another bundle"),
        ({"staged_at": "2026-01-01T00:00:00Z"}, "another attempt"),
        ({"seconds": -MAX_AGE - 5}, "was seen at"),
        ({"seconds": MAX_AHEAD + 5}, "was seen at"),
    ],
)
def test_evidence_of_anything_else_is_refused(scene, how, why):
    body = refused(asked(scene, evidence(scene, **how)), 403, "unauthorized")
    assert why in body["reason"]
    assert revision(scene).lifecycle == "warming"


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"payloadType":"x","payload":"","signatures":[]}', "[" * 900])
def test_what_is_no_evidence_is_refused(scene, text):
    refused(asked(scene, text), 403, "unauthorized")


def test_a_changed_byte_is_found(scene):
    text = evidence(scene)
    place = text.index('"payload":"') + 40
    spoiled = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
    assert "signature does not hold" in refused(asked(scene, spoiled), 403, "unauthorized")["reason"]


def test_evidence_of_an_earlier_attempt_is_worth_nothing_later(scene):
    old = evidence(scene)
    refused(asked(scene, ok=False, failure=BAD_GATE["failure"]), 422, "health-gate-failed")
    for verb in ("retry", "begin-warm"):
        ok(scene.ask("POST", f"{OURS}/{verb}", {"revision_id": ONE}, token=scene.operator))
    assert "another attempt" in refused(asked(scene, old), 403, "unauthorized")["reason"]
    ok(asked(scene, evidence(scene)))


def test_a_failure_needs_no_evidence(scene):
    refused(asked(scene, **BAD_GATE), 422, "health-gate-failed")
    assert revision(scene).lifecycle == "failed"


def test_whose_grant_says_so_is_believed(scene):
    told = ok(asked(scene, token=scene.believed))
    assert told["audit"]["target"]["vouched"] == {"actor": "old-ci"}


def test_a_data_plane_that_is_taken_out_counts_no_more(scene, tmp_path):
    shown = evidence(scene)
    tokens.remove_data_plane(tmp_path / "tokens.json", PLANE.key_id)
    scene.desk.doorkeeper.reload()
    assert "knows no data plane" in refused(asked(scene, shown), 403, "unauthorized")["reason"]


def test_taking_out_the_last_key_does_not_bring_words_back(scene, tmp_path):
    for key in (PLANE, OTHER):
        tokens.remove_data_plane(tmp_path / "tokens.json", key.key_id)
    assert json.loads((tmp_path / "tokens.json").read_text())["data_planes"] == []
    scene.desk.doorkeeper.reload()
    assert not scene.desk.doorkeeper.takes_words
    refused(asked(scene), 403, "unauthorized")


def test_a_file_that_names_no_data_planes_takes_words_as_the_reference_does(scene, tmp_path):
    path = tmp_path / "tokens.json"
    document = json.loads(path.read_text())
    del document["data_planes"]
    path.write_text(json.dumps(document))
    scene.desk.doorkeeper.reload()
    assert scene.desk.doorkeeper.takes_words
    told = ok(asked(scene))
    assert told["result"]["revision"]["lifecycle"] == "ready"
    assert told["audit"]["target"]["vouched"] == {"actor": "ci"}
