"""Nothing that a test runs reaches the operator key, or anything else, of who runs it."""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure():
    """Ctrl-C ends what tests start, also where the run itself was started with it ignored, as a shell does with `&`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def executables_of_the_tests(tmp_path_factory: pytest.TempPathFactory):
    """A folder for executable env-packs, for this process and all that it starts."""
    os.environ["GREENTIC_ENV_PACKS"] = str(tmp_path_factory.mktemp("executables") / "env-packs")
    yield
    del os.environ["GREENTIC_ENV_PACKS"]


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


@pytest.fixture(scope="session")
def postgresql():
    """A real PostgreSQL server for the whole run; see `databases.server`."""
    from tests.integration import databases

    running = databases.server()
    yield running
    running.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """The place of a new database, once of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "a folder" / "store.db")
    return request.getfixturevalue("postgresql").fresh()


@pytest.fixture
def opened():
    """Opens stores in databases and closes them."""
    from greentic.store.sql.store import open_store

    stores = []

    def open(place, **options):
        stores.append(open_store(place, **options))
        return stores[-1]

    yield open
    for store in stores:
        store.close()
