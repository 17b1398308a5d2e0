"""What `greentic.envpacks.revocation` asks, with a list from a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from greentic.envpacks.revocation import Revocation, RevocationContext
from greentic.spec.errors import CorruptDocument, GreenticError, InvalidArgument, ProviderError

from acme_example import pack


class Lists:
    """A server of one list."""

    def __init__(self) -> None:
        self.body = b'{"revoked": []}'
        lists = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(lists.body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is printed."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/list"


@pytest.fixture
def lists() -> Iterator[Lists]:
    found = Lists()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def revocation(url: str) -> Revocation:
    make = pack().revocation
    assert make is not None
    return make(RevocationContext("local", Path("/nowhere"), {"url": url}))


def test_what_is_listed_is_revoked_from_then_on(lists: Lists) -> None:
    asked = revocation(lists.url)
    assert asked.find("bundle", "sha256:a") is None
    lists.body = b'{"revoked": [{"kind": "bundle", "subject": "sha256:a", "reason": "leaks"}]}'
    entry = asked.find("bundle", "sha256:a")
    assert entry is not None
    assert entry.reason == "leaks"
    assert asked.find("key", "sha256:a") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"revoked": [7]}', b'{"revoked": [{"kind": "x"}]}', b"[" * 9999])
def test_a_list_that_cannot_be_read_is_not_an_empty_one(lists: Lists, body: bytes) -> None:
    lists.body = body
    with pytest.raises(CorruptDocument):
        revocation(lists.url).find("bundle", "sha256:a")


def test_a_list_that_cannot_be_fetched_allows_nothing() -> None:
    with pytest.raises(ProviderError):
        revocation("http://127.0.0.1:9/list").find("bundle", "sha256:a")


@pytest.mark.parametrize("url", ["", "list", "ftp://x/", "http://example.org/list", "file:///etc/passwd"])
def test_where_no_list_could_be_trusted(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        revocation(url)
    assert isinstance(caught.value, GreenticError)
