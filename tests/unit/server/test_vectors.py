"""The golden vectors of reference 02, section 15, over a real server."""

from __future__ import annotations

from greentic.server.exchange import wire_fingerprint
from greentic.spec.integrity import digest

FRESH = {"env_id": "local", "name": "local", "host_config": {"env_id": "local"}}


def test_digest_of_nothing():
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_fingerprints():
    assert (
        wire_fingerprint("POST", "/environments", FRESH)
        == "e559611ee790195144feec150bac880d4de84254238ccce913fd7c1ec4e9c112"
    )
    assert (
        wire_fingerprint("DELETE", "/environments/local/packs/secrets", None)
        == "0cded4455d7b659f8130a27afad7a7b86b34b7dcf170f6a3ff0c7001d7c18e1a"
    )


def test_a_fresh_environment(server):
    created = server.ask("POST", "/environments", FRESH)
    told = created.json()
    assert told["etag"] == "dedc0d808d98d92ef537579c276d9e506032df65547a98f21abc97b923101c8c"
    assert told["generation"] == 1
    assert created.headers["etag"] == f'"{told["etag"]}"'
    assert created.headers["location"] == "/environments/local"
    assert digest(told["result"]) == told["etag"]
    read = server.ask("GET", "/environments/local").json()
    assert read == {"environment": told["result"], "etag": told["etag"], "generation": 1}
