"""The store server as a process, used by the command line from afar: TLS, tokens, certificates, issuers, its end."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.integration import databases
from tests.integration.certificates import Identity, identity
from tests.integration.command_line import CommandLine, free_port

from greentic.trust.keys import OperatorKey


@dataclass
class Server:
    """`gtc store serve` in a folder of its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.json"

    def token(self, name: str, *words: str) -> str:
        done = run("store", "token", "create", name, "-f", str(self.tokens), *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *words: str, db: str | None = None) -> Server:
        log = (self.folder / "server.log").open("a")
        command = [
            *(sys.executable, "-m", "greentic.cli.main", "store", "serve", "--bind", f"127.0.0.1:{self.port}"),
            *("--db", db or str(self.folder / "store.db"), "--operator-key", str(self.folder / "key" / "key.pem")),
            *words,
        ]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        log.close()
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def end(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        status = self.process.wait(30)
        self.process = None
        return status

    def log(self) -> str:
        return (self.folder / "server.log").read_text()


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "greentic.cli.main", *words]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=90, check=False
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    found = Server(folder)
    yield found
    if found.process is not None:
        found.process.kill()
        found.process.wait()


@pytest.fixture
def authority(server: Server) -> Identity:
    """An authority, whose certificate for the server lies in its folder."""
    found = identity("the authority")
    write(server.folder / "ca.pem", found.pem)
    certify(server, found)
    return found


def certify(server: Server, authority: Identity, days: float = 30) -> Identity:
    mine = identity("localhost", authority, days=days)
    write(server.folder / "key.pem.new", mine.key_pem)
    (server.folder / "key.pem.new").rename(server.folder / "tls-key.pem")
    write(server.folder / "cert.pem.new", mine.pem)
    (server.folder / "cert.pem.new").rename(server.folder / "tls-cert.pem")
    return mine


def write(path: Path, text: str) -> None:
    path.write_text(text)


def over_tls(server: Server) -> tuple[str, ...]:
    server.scheme = "https"
    return ("--tls-cert", str(server.folder / "tls-cert.pem"), "--tls-key", str(server.folder / "tls-key.pem"))


def remote(gtc: CommandLine, server: Server, token: str | None) -> None:
    gtc.environment["GREENTIC_STORE_URL"] = server.url
    gtc.environment["GTC_OPERATOR_KEY_PATH"] = str(gtc.root / "none" / "key.pem")
    if (server.folder / "ca.pem").exists():
        gtc.environment["GREENTIC_STORE_CA"] = str(server.folder / "ca.pem")
    if token is not None:
        gtc.environment["GREENTIC_STORE_TOKEN"] = token


def test_the_main_job_with_the_record_on_a_server(
    gtc: CommandLine, server: Server, authority: Identity, bundles: dict[str, Path]
) -> None:
    """init, deploy, dial, undo, audit, backup: as against local files, over TLS, with a token and a data plane."""
    token = server.token("ops", "--role", "admin")
    server.start("--rbac-tokens", str(server.tokens), *over_tls(server))
    remote(gtc, server, token)
    allowed = allow_data_plane(gtc, server)
    try:
        main_job(gtc, bundles)
        vouched = [
            event["target"]["vouched"]["key_id"]
            for event in gtc("op", "audit", "tail", "-n", "100").result["events"]
            if event["verb"] == "warm"
        ]
        assert vouched == [allowed["key_id"]] * 2
    finally:
        gtc("stop")  # while there is somebody to ask what runs
    # The record is nowhere on this machine, the token in no file of it.
    assert not list(gtc.root.rglob("environment.json"))
    assert token not in server.log() + "".join(path.read_text() for path in server.folder.glob("*.json"))
    assert server.end() == 0


def allow_data_plane(gtc: CommandLine, server: Server, *environments: str) -> Any:
    """Let the server believe what this machine sees of its workers."""
    own = gtc("store", "data-plane", "key").result
    public = server.folder / "data-plane.pub"
    public.write_text(own["public_key_pem"])
    named = [word for name in environments or ("local",) for word in ("--only-env", name)]
    done = run("store", "data-plane", "allow", "here", "--key", str(public), *named, "-f", str(server.tokens))
    assert done.returncode == 0, done.stderr
    return own


def test_a_worker_is_ready_when_a_data_plane_saw_it(gtc: CommandLine, server: Server, bundles: dict[str, Path]) -> None:
    token = server.token("ops", "--role", "admin")
    other = server.folder / "other.pub"
    other.write_text(OperatorKey.from_seed(bytes(32)).public_pem)
    words = ("allow", "elsewhere", "--key", str(other), "--only-env", "other", "-f", str(server.tokens))
    assert run("store", "data-plane", *words).returncode == 0  # from here on words do not count
    server.start("--rbac-tokens", str(server.tokens))
    remote(gtc, server, token)
    try:
        gtc.init()
        refused = gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web")
        assert refused.status == 6
        assert "not taken on the caller's word" in refused.error["message"]
        assert gtc("op", "revisions", "list").result["revisions"][0]["lifecycle"] == "warming"
        own = allow_data_plane(gtc, server)
        warmed = []

        def ready() -> bool:
            warmed.append(gtc("op", "revisions", "warm", "web", "v1"))
            return warmed[-1].status == 0

        until(ready)  # the server looks at its file once a second
        assert warmed[-1].result["lifecycle"] == "ready"
        keys = list(gtc.root.rglob("data-plane/key.pem"))
        assert [key.stat().st_mode & 0o777 for key in keys] == [0o600]
        assert gtc("store", "data-plane", "key").result["key_id"] == own["key_id"]
    finally:
        gtc("stop")


def main_job(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    assert gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").result["traffic"] == "100% (10000 bps)"
    gtc("op", "deploy", "--bundle", str(bundles["v2"]), "web", "--traffic", "0%")
    assert gtc("op", "traffic", "set", "web", "v2=10%", "rest=v1").result["receipt"]["acknowledged"] == 1
    seen = [gtc.get()[1]["version"] for _ in range(20)]
    assert sorted(set(seen)) == ["1.0.0", "2.0.0"]
    assert seen.count("2.0.0") == 2
    kept = gtc("op", "backup", "create").result["backup"]
    assert gtc("op", "traffic", "rollback", "web").result["restored_generation"] == 0
    assert gtc("op", "env", "list").result["environments"][0]["environment_id"] == "local"
    told = gtc("op", "audit", "verify").result
    assert told["ok"]
    assert told["signed_head"]["sequence"] == told["head"]["sequence"]
    newest = gtc("op", "audit", "tail").result["events"][-1]
    assert (newest["actor"], newest["verb"]) == ({"kind": "bearer-token", "user": "ops"}, "rollback")
    assert newest["target"]["updated_by"] != "ops"
    assert (
        gtc("op", "backup", "restore", "local", "--backup", kept).result["restored_generation"]
        < newest["new_generation"]
    )
    shares = {one["name"]: one["weight_bps"] for one in gtc("op", "revisions", "list").result["revisions"]}
    assert shares == {"v1": 9_000, "v2": 1_000}
    refused = gtc("op", "policy", "show", "local")
    assert refused.error["kind"] == "not-yet-implemented"


def test_the_same_key_after_the_server_was_killed(gtc: CommandLine, server: Server) -> None:
    server.start()
    remote(gtc, server, None)
    created = gtc("op", "env", "create", "prod", "--idempotency-key", "once").result
    server.end(signal.SIGKILL)
    failed = gtc("op", "env", "update", "prod", "--region", "eu", "--idempotency-key", "k")
    assert failed.error["kind"] == "store"
    assert "does not answer" in failed.error["message"]
    server.start()
    assert gtc("op", "env", "create", "prod", "--idempotency-key", "once").result["etag"] == created["etag"]
    assert gtc("op", "env", "update", "prod", "--region", "eu", "--idempotency-key", "k").result["generation"] == 2
    assert gtc("op", "env", "update", "prod", "--region", "eu", "--idempotency-key", "k").result["generation"] == 2
    assert gtc("op", "audit", "verify", "--env", "prod").result["ok"]


def test_what_runs_here_is_stopped_while_the_server_is_away(gtc: CommandLine, server: Server) -> None:
    server.start()
    remote(gtc, server, None)
    gtc.init()
    try:
        assert gtc("start", "--background").result["running"]
        server.end(signal.SIGKILL)
        stopped = run("stop", **gtc.environment)
        assert stopped.returncode == 0, stopped.stderr
        assert "does not answer" in stopped.stderr
        assert "was ended without it" in stopped.stderr
        server.start()
        assert gtc("start", "--background").result["running"]
        server.end(signal.SIGKILL)
        told = gtc("stop").result
        assert told["stopped"]
        assert told["store_error"]["kind"] == "store"
        again = gtc("stop")
        assert again.error["kind"] == "store", "nothing runs here, and only the record says what may run elsewhere"
    finally:
        gtc("stop")


def test_tokens_come_and_go_while_it_runs(gtc: CommandLine, server: Server) -> None:
    root = server.token("root", "--role", "admin")
    server.start("--rbac-tokens", str(server.tokens))
    remote(gtc, server, root)
    gtc("op", "env", "create", "prod")
    partner = server.token("partner", "--role", "operator", "--only-env", "prod")
    listed = json.loads(run("store", "token", "list", "-f", str(server.tokens), "--json").stdout)["result"]["tokens"]
    assert [one["actor"] for one in listed] == ["root", "partner"]
    remote(gtc, server, partner)
    until(lambda: gtc("op", "env", "show", "prod").status == 0)
    assert gtc("op", "env", "create", "other").error["kind"] == "unauthorized"
    assert gtc("op", "trust-root", "bootstrap", "prod").status == 6
    assert run("store", "token", "revoke", listed[1]["token_id"], "-f", str(server.tokens)).returncode == 0
    until(lambda: gtc("op", "env", "show", "prod").status == 6)
    log = server.log()
    assert root not in log
    assert partner not in log


def test_a_certificate_names_who_calls(gtc: CommandLine, server: Server, authority: Identity) -> None:
    known, stranger = identity("partner", authority, client=True), identity("stranger", authority, client=True)
    entry = {"subject": "CN=partner", "actor": "partner", "role": "operator"}
    server.tokens.write_text(json.dumps({"schema": "greentic.store-rbac.v1", "tokens": [], "certificates": [entry]}))
    server.start("--rbac-tokens", str(server.tokens), "--client-ca", str(server.folder / "ca.pem"), *over_tls(server))
    remote(gtc, server, None)
    assert gtc("op", "env", "create", "prod").status == 6
    for who, status in ((known, 0), (stranger, 6)):
        write(server.folder / "client.pem", who.pem)
        write(server.folder / "client.key", who.key_pem)
        gtc.environment["GREENTIC_STORE_CERT"] = str(server.folder / "client.pem")
        gtc.environment["GREENTIC_STORE_KEY"] = str(server.folder / "client.key")
        assert gtc("op", "env", "create", f"prod{status}").status == status
    write(server.folder / "client.pem", known.pem)
    write(server.folder / "client.key", known.key_pem)
    actor = gtc("op", "audit", "tail", "--env", "prod0").result["events"][-1]["actor"]
    assert actor == {"kind": "client-certificate", "user": "partner"}


def test_a_renewed_certificate_is_taken_over(server: Server, authority: Identity) -> None:
    server.start(*over_tls(server))
    first = served(server)
    certify(server, authority)
    until(lambda: served(server) != first)
    second = served(server)
    (server.folder / "tls-cert.pem").write_text("not a certificate")
    until(lambda: "not taken over" in server.log())
    assert served(server) == second


def test_authorities_of_clients_come_and_go(server: Server, authority: Identity) -> None:
    """A change of the file counts for who comes and for who is connected; what it revokes counts no more."""
    other = identity("another authority")
    partner, namesake = (identity("partner", one, client=True) for one in (authority, other))
    entry = {"subject": "CN=partner", "actor": "partner", "role": "operator"}
    server.tokens.write_text(json.dumps({"schema": "greentic.store-rbac.v1", "tokens": [], "certificates": [entry]}))
    authorities = server.folder / "clients.pem"
    authorities.write_text(authority.pem)
    server.start("--rbac-tokens", str(server.tokens), "--client-ca", str(authorities), *over_tls(server))

    def client(who: Identity) -> httpx2.Client:
        write(server.folder / "client.pem", who.pem + who.key_pem)
        context = ssl.create_default_context(cafile=str(server.folder / "ca.pem"))
        context.load_cert_chain(server.folder / "client.pem")
        return httpx2.Client(base_url=server.url, verify=context, trust_env=False, timeout=20)

    def admitted(who: Identity) -> bool:
        with client(who) as fresh:
            try:
                return fresh.get("environments").status_code == 200
            except httpx2.HTTPError:
                return False

    assert admitted(partner)
    assert not admitted(namesake)
    assert not admitted(identity("partner", authority)), "a certificate for servers"
    with client(partner) as connected:
        assert connected.get("environments").status_code == 200
        authorities.write_text(other.pem)
        until(lambda: admitted(namesake))
        assert not admitted(partner)
        with pytest.raises(httpx2.HTTPError):
            connected.get("environments").raise_for_status()
    now = datetime.datetime.now(datetime.UTC)
    gone = (
        x509.RevokedCertificateBuilder().serial_number(namesake.certificate.serial_number).revocation_date(now).build()
    )
    revoked = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(other.certificate.subject)
        .last_update(now - datetime.timedelta(days=1))
        .next_update(now + datetime.timedelta(days=1))
        .add_revoked_certificate(gone)
        .sign(other.key, hashes.SHA256())
    )
    authorities.write_text(other.pem + revoked.public_bytes(serialization.Encoding.PEM).decode())
    until(lambda: not admitted(namesake))
    assert admitted(identity("partner", other, client=True))


def served(server: Server) -> bytes:
    """The certificate that the server shows."""
    context = ssl.create_default_context(cafile=str(server.folder / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire,
        context.wrap_socket(wire, server_hostname="localhost") as secure,
    ):
        found = secure.getpeercert(binary_form=True)
        assert found is not None
        return found


def test_tokens_of_an_issuer(server: Server) -> None:
    key, other = (rsa.generate_private_key(public_exponent=65_537, key_size=2_048) for _ in range(2))
    published = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    asked = []

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps({"keys": [{**published, "kid": "one", "alg": "RS256", "use": "sig"}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys) as issuer:
        threading.Thread(target=issuer.serve_forever, daemon=True).start()
        grants = [{"claim": "groups", "value": "deployers", "role": "operator", "env_ids": ["prod"]}]
        entry = {
            "issuer": "https://id.example",
            "audience": "store",
            "jwks_uri": f"http://127.0.0.1:{issuer.server_address[1]}/keys",
            "grants": grants,
        }
        server.tokens.write_text(json.dumps({"schema": "greentic.store-rbac.v1", "tokens": [], "issuers": [entry]}))
        server.start("--rbac-tokens", str(server.tokens))
        now = int(time.time())
        good = {
            "iss": "https://id.example",
            "aud": "store",
            "sub": "ann",
            "groups": ["x", "deployers"],
            "exp": now + 300,
            "nbf": now - 10,
        }

        def status(claims: dict[str, Any], signer: Any = key, algorithm: str = "RS256", kid: str = "one") -> int:
            token = jwt.encode(claims, signer, algorithm=algorithm, headers={"kid": kid})
            headers = {"authorization": f"Bearer {token}"}
            return httpx2.get(f"{server.url}/environments/prod", headers=headers, trust_env=False).status_code

        assert status(good) == 404
        for change in (
            {"iss": "https://evil.example"},
            {"aud": "other"},
            {"exp": now - 3_600},
            {"nbf": now + 3_600},
            {"groups": ["x"]},
            {"groups": "deploy"},
            {"sub": None},
        ):
            assert status({**good, **change}) == 401, change
        assert status({name: value for name, value in good.items() if name != "exp"}) == 401
        assert status(good, other) == 401
        secret = published["n"].encode()[:64]
        assert status(good, secret, "HS256") == 401
        assert status(good, None, "none") == 401
        assert status({**good, "groups": ["deployers"]}) == 404
        assert all(status(good, other, kid=f"k{number}") == 401 for number in range(5))
        assert len(asked) == 1, "unknown keys must not make the server ask the issuer again and again"
        issuer.shutdown()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--bind", "0.0.0.0:0"), "everybody who reaches"),
        (("--bind", "nowhere"), "ip:port"),
        (("--tls-cert", "x"), "needs both"),
        (("--rbac-tokens", "/nowhere/tokens.json"), "cannot be read"),
        (("--client-ca", "x"), "needs TLS"),
    ],
)
def test_doors_that_would_stand_open(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    done = run("store", "serve", "--db", str(tmp_path / "x.db"), *words)
    assert done.returncode != 0
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked_and_lets_go_of_streams(server: Server, how: int) -> None:
    server.start()
    body = {"env_id": "prod", "name": "prod", "host_config": {"env_id": "prod"}}
    headers = {"idempotency-key": "k"}
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        assert client.post("environments", json=body, headers=headers).status_code == 200
        with client.stream("GET", "environments/prod/watch") as watching:
            lines = watching.iter_lines()
            assert any(line.startswith("data: ") for line in lines)
            begun = time.monotonic()
            assert server.end(how) == 0
            assert time.monotonic() - begun < 10
            list(lines)
    assert "ended" in server.log()


def test_a_second_server_is_refused_by_name(server: Server) -> None:
    server.start()
    at, place = f"127.0.0.1:{free_port()}", str(server.folder / "store.db")
    for words in (("--bind", at, "--db", place), ("--bind", f"127.0.0.1:{server.port}", "--db", f"{place}2")):
        done = run("store", "serve", *words)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "error:" in done.stderr


def test_two_servers_on_one_database(server: Server, tmp_path: Path) -> None:
    """What one server does, the other shows and tells at once; one key has one effect wherever it is sent."""
    database = databases.server()
    place = database.fresh()
    (tmp_path / "other").mkdir()
    other = Server(tmp_path / "other")
    try:
        server.start(db=place)
        other.start(db=place)
        body = {"env_id": "prod", "name": "prod", "host_config": {"env_id": "prod"}}
        with httpx2.Client(trust_env=False, timeout=30) as client:
            made = client.post(f"{server.url}/environments", json=body, headers={"idempotency-key": "k"}).json()
            again = client.post(f"{other.url}/environments", json=body, headers={"idempotency-key": "k"}).json()
            assert again == {**made, "idempotency": {"idempotency": "replayed"}}
            with client.stream("GET", f"{other.url}/environments/prod/watch") as watching:
                told = (line for line in watching.iter_lines() if line.startswith("data: "))
                assert json.loads(next(told)[6:])["generation"] == 1
                changed = client.patch(
                    f"{server.url}/environments/prod",
                    json={"name": "x"},
                    headers={"idempotency-key": "p", "if-match": made["etag"]},
                )
                assert changed.status_code == 200
                assert json.loads(next(told)[6:])["etag"] == changed.json()["etag"]
            stale = {"idempotency-key": "q", "if-match": made["etag"]}
            late = client.patch(f"{other.url}/environments/prod", json={"name": "y"}, headers=stale)
            assert late.status_code == 412
        assert other.end() == 0
    finally:
        for one in (server, other):
            if one.process is not None:
                one.end()
        database.remove()


def test_slow_and_endless_heads_are_let_go(server: Server) -> None:
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
        wire.sendall(b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 200_000)
        with contextlib.suppress(ConnectionError):
            assert wire.recv(65_536).startswith(b"HTTP/1.1 431")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
        wire.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert wire.recv(65_536).startswith(b"HTTP/1.1 400")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as wire:
        wire.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
        assert wire.recv(65_536).startswith(b"HTTP/1.1 408")


def test_a_folder_of_environments_is_served_as_it_is(gtc: CommandLine, server: Server) -> None:
    gtc.init()
    server.start(db=str(gtc.root))
    remote(gtc, server, None)
    assert gtc("op", "env", "show", "local").result["generation"] == 1


def until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
