"""Signed heads: the operator key is looked for again until there is one."""

from __future__ import annotations

from greentic.operations import heads
from greentic.trust import keys


def test_a_key_that_is_made_while_a_server_runs_is_found(tmp_path):
    path = tmp_path / "operator" / "key.pem"
    assert heads._operator_key(path) is None
    made = keys.load_or_create(path)
    found = heads._operator_key(path)
    assert found is not None
    assert found.key_id == made.key_id
    path.unlink()
    assert heads._operator_key(path) is found, "what was found is not read for every head"
