"""Nothing that a test runs reaches the operator key, or anything else, of who runs it."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def operator_key_of_the_tests(tmp_path_factory: pytest.TempPathFactory):
    """An operator key of the test run, for this process and all that it starts; made by the first that needs it."""
    before = os.environ.get("GTC_OPERATOR_KEY_PATH")
    os.environ["GTC_OPERATOR_KEY_PATH"] = str(tmp_path_factory.mktemp("operator") / "key.pem")
    yield
    if before is None:
        del os.environ["GTC_OPERATOR_KEY_PATH"]
    else:
        os.environ["GTC_OPERATOR_KEY_PATH"] = before
