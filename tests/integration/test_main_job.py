"""The main job through the command line, with real processes: deploy, move, undo, and what goes wrong on the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.integration.command_line import CommandLine, request


def until(condition: Any, seconds: float = 20.0) -> Any:
    """The first true value of `condition`, asked again and again up to a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            value = condition()
        except (OSError, ValueError, IndexError):
            value = None
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it never came true")


def two_versions(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    first = gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web").result
    assert (first["name"], first["traffic"]) == ("v1", "100% (10000 bps)")
    second = gtc("op", "deploy", "--bundle", str(bundles["v2"]), "web", "--traffic", "0%").result
    assert (second["name"], second["status"], second.get("receipt")) == ("v2", "ready", None)


def seen(gtc: CommandLine, count: int) -> Counter[str]:
    return Counter(gtc.get()[1]["version"] for _ in range(count))


def test_the_main_job(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    two_versions(gtc, bundles)
    assert seen(gtc, 20) == {"1.0.0": 20}
    link = gtc("op", "traffic", "preview", "web", "@latest").result
    status, body = gtc.get("/" + link["url"].split("/", 3)[3])
    assert (status, body["version"]) == (200, "2.0.0")
    moved = gtc("op", "traffic", "set", "web", "v2=10%", "rest=v1").result
    assert moved["moved_slots"] == 1000
    assert moved["receipt"]["acknowledged"] == moved["receipt"]["expected"] == 1
    counted = seen(gtc, 100)
    assert counted == {"1.0.0": 90, "2.0.0": 10}
    assert gtc("op", "traffic", "set", "web", "v2=100%").result["generation"] == 2
    assert seen(gtc, 20) == {"2.0.0": 20}
    back = gtc("op", "traffic", "rollback", "web").result
    assert (back["restored_generation"], back["generation"]) == (1, 3)
    assert seen(gtc, 100) == {"1.0.0": 90, "2.0.0": 10}
    assert gtc("op", "traffic", "rollback", "web", "--to", "0", "--note", "3 a.m.").result["generation"] == 4
    assert seen(gtc, 20) == {"1.0.0": 20}
    history = gtc("op", "traffic", "history", "web").result["splits"]
    assert [row["generation"] for row in history] == [4, 3, 2, 1, 0]
    assert history[0]["note"] == "3 a.m."
    tree = gtc("op", "status").result["deployments"][0]
    assert [(one["name"], one["weight_bps"], one["health"]) for one in tree["revisions"]] == [
        ("v1", 10_000, "healthy"),
        ("v2", 0, "healthy"),
    ]
    drained = gtc("op", "revisions", "drain", "web", "v2").result
    assert (drained["lifecycle"], drained["cut"]) == ("inactive", 0)
    assert gtc("op", "revisions", "retry", "web", "v2").result["lifecycle"] == "ready"
    assert gtc("op", "revisions", "archive", "web", "v2").result["lifecycle"] == "archived"
    assert gtc("op", "revisions", "archive", "web", "v1").status == 4
    assert gtc("op", "traffic", "clear", "web").result["cleared"] is True
    status, _ = request(gtc.port, "/")
    assert status == 503
    assert gtc("op", "revisions", "archive", "web", "v1").result["lifecycle"] == "archived"
    assert len(gtc("op", "bundles", "remove", "web").result["pruned_revision_ids"]) == 2
    assert request(gtc.port, "/")[0] == 404
    assert not list((gtc.root / "local" / "revisions").iterdir())


def test_moves_under_load_lose_no_request_and_obey_the_receipt(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    """Keep-alive clients without cookies during ten flips; after a receipt nothing is served by the old arm."""
    two_versions(gtc, bundles)
    stop = threading.Event()
    seen_by: list[list[tuple[float, float, str]]] = [[] for _ in range(4)]
    failures: list[str] = []

    def visit(log: list[tuple[float, float, str]]) -> None:
        with socket.create_connection(("127.0.0.1", gtc.port), timeout=20) as connection:
            stream = connection.makefile("rb")
            while not stop.is_set():
                sent = time.monotonic()
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                status = int(stream.readline().split()[1])
                length = 0
                while (line := stream.readline()) not in {b"\r\n", b""}:
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                body = stream.read(length)
                if status != 200:
                    failures.append(f"{status} {body!r}")
                    return
                log.append((sent, time.monotonic(), json.loads(body)["version"]))

    visitors = [threading.Thread(target=visit, args=(log,)) for log in seen_by]
    for visitor in visitors:
        visitor.start()
    moves: list[tuple[float, float, str]] = []
    for turn in range(10):
        arm = "v2" if turn % 2 == 0 else "v1"
        gtc("op", "traffic", "set", "web", f"{arm}=100%").result  # noqa: B018 - asserts success
        received, logged = time.monotonic(), [len(log) for log in seen_by]
        while any(len(log) < before + 5 for log, before in zip(seen_by, logged, strict=True)):
            assert all(visitor.is_alive() for visitor in visitors), failures
            time.sleep(0.005)
        moves.append((received, time.monotonic(), "2.0.0" if arm == "v2" else "1.0.0"))
    stop.set()
    for visitor in visitors:
        visitor.join(timeout=30)
    assert not failures
    for received, next_began, version in moves:
        between = [seen for log in seen_by for sent, done, seen in log if received <= sent and done < next_began]
        assert len(between) >= 4
        assert set(between) == {version}


def test_a_cookie_keeps_a_visitor_where_it_is(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    two_versions(gtc, bundles)
    with socket.create_connection(("127.0.0.1", gtc.port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    cookie = next(
        line.split(b":", 1)[1].split(b";")[0].strip().decode()
        for line in received.split(b"\r\n")
        if line.lower().startswith(b"set-cookie:")
    )
    gtc("op", "traffic", "set", "web", "v2=99%", "rest=v1")
    versions = {json.loads(request(gtc.port, "/", {"Cookie": cookie})[1])["version"] for _ in range(30)}
    assert versions == {"1.0.0"}
    gtc("op", "traffic", "set", "web", "v2=100%")
    assert json.loads(request(gtc.port, "/", {"Cookie": cookie})[1])["version"] == "2.0.0"
    forged = cookie[:-4] + "AAAA"
    assert request(gtc.port, "/", {"Cookie": forged})[0] == 200


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_deploy_of_what_is_no_bundle_makes_nothing(gtc: CommandLine, tmp_path: Path, more: tuple[str, ...]) -> None:
    """Above all no deployment that would keep its route from others."""
    gtc.init()
    junk = tmp_path / "junk.gtbundle"
    junk.write_bytes(b"not an archive")
    assert gtc("op", "deploy", "--bundle", str(junk), "web", *more).status == 1
    assert gtc("op", "bundles", "list").result["deployments"] == []


@pytest.mark.parametrize(
    ("kind", "words"),
    [("sick", "500"), ("broken", "no such luck"), ("mute", "application")],
)
def test_a_worker_that_does_not_answer_is_failed_with_its_words(
    gtc: CommandLine, bundles: dict[str, Path], kind: str, words: str
) -> None:
    gtc.init()
    gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web")
    refused = gtc("op", "deploy", "--bundle", str(bundles[kind]), "web")
    assert refused.status == 7
    assert words in json.dumps(refused.error)
    listed = gtc("op", "revisions", "list", "web").result["revisions"]
    assert [one["lifecycle"] for one in listed] == ["ready", "failed"]
    assert listed[0]["weight_bps"] == 10_000
    assert gtc.get()[1]["version"] == "1.0.0"


def test_a_taken_port_is_said_and_can_be_changed(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", gtc.port))
        taken.listen()
        gtc.init()
        refused = gtc("op", "deploy", "--bundle", str(bundles["v1"]), "web")
        assert refused.status != 0
        assert str(gtc.port) in refused.error["message"]
        assert "listen-addr" in refused.error["next_step"]
    assert gtc("op", "revisions", "warm", "web", "v1").result["lifecycle"] == "ready"
    assert gtc("op", "traffic", "set", "web", "v1=100%").result["generation"] == 0
    assert gtc.get()[0] == 200


def test_kill_minus_nine_of_a_worker_the_router_and_the_runtime(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    two_versions(gtc, bundles)
    gtc("op", "traffic", "set", "web", "v2=50%", "rest=v1")
    worker = next(body["pid"] for body in (gtc.get()[1] for _ in range(4)) if body["version"] == "1.0.0")
    os.kill(worker, signal.SIGKILL)
    until(lambda: {gtc.get()[1]["version"] for _ in range(8)} == {"1.0.0", "2.0.0"})
    assert worker not in {gtc.get()[1]["pid"] for _ in range(4)}

    runtime = int(json.loads((gtc.root / "local" / "run" / "runtime.json").read_text())["pid"])
    children = [int(pid) for pid in Path(f"/proc/{runtime}/task/{runtime}/children").read_text().split()]
    router = next(pid for pid in children if b"greentic.router" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(router, signal.SIGKILL)
    assert gtc.get()[0] == 200, "a queued connection waits for the next router"

    children = [int(pid) for pid in Path(f"/proc/{runtime}/task/{runtime}/children").read_text().split()]
    os.kill(runtime, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in children))
    before = gtc("op", "status").result
    assert before["running"] is False
    assert gtc("start", "--background").result["healthy"] == 2
    assert seen(gtc, 10) == {"1.0.0": 5, "2.0.0": 5}
    assert gtc("op", "traffic", "show", "web").result["generation"] == 1


def alive(pid: int) -> bool:
    """Whether the process runs; one that is only waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_two_deployments_share_an_environment_and_never_mix(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    gtc("op", "deploy", "--bundle", str(bundles["v1"]), "one", "--path-prefix", "/one")
    overlapping = gtc("op", "deploy", "--bundle", str(bundles["v2"]), "two", "--path-prefix", "/one/")
    assert overlapping.status in {2, 4}
    assert "/one" in overlapping.error["message"]
    made = gtc(
        *("op", "deploy", "--bundle", str(bundles["v2"]), "two", "--path-prefix", "/two", "--customer-id", "acme"),
        *("--config-override", "assistant:tone=brisk"),
    )
    assert made.status == 0, made.err
    assert [gtc.get(path)[1]["version"] for path in ("/one", "/two/x", "/one/y")] == ["1.0.0", "2.0.0", "1.0.0"]
    assert request(gtc.port, "/onetwo")[0] == 404
    assert "brisk" in json.dumps(gtc.get("/two")[1]["config"])
    assert "calm" in json.dumps(gtc.get("/one")[1]["config"])
    assert gtc.get("/two")[1]["operator"] is None, "a worker sees nothing of the operator's environment"
    gtc("op", "deploy", "--bundle", str(bundles["v1"]), "everything-else")
    gtc("op", "bundles", "update", "two", "--status", "paused")
    assert request(gtc.port, "/two")[0] == 503, "not handed to whoever has the prefix above"
    assert gtc.get("/three")[1]["version"] == "1.0.0"
    assert gtc.get("/one")[0] == 200
    gtc("op", "bundles", "update", "two", "--status", "active")
    assert gtc.get("/two")[1]["version"] == "2.0.0"


def test_what_staging_would_refuse_leaves_no_empty_deployment(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    before = gtc("op", "env", "show", "local").result
    words = ("op", "deploy", "--bundle", str(bundles["v2"]), "web", "--config-override")
    for wrong in ("assistant:nothing=1", "nobody:tone=calm"):
        for more in ((), ("--dry-run",)):
            refused = gtc(*words, wrong, *more)
            assert refused.status == 2, (wrong, refused.out)
    assert gtc("op", "env", "show", "local").result == before


def test_a_dry_run_changes_nothing(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    before = gtc("op", "env", "show", "local").result
    words = ("op", "deploy", "--bundle", str(bundles["v1"]), "web", "--dry-run")
    assert "stage" in " ".join(gtc(*words).result["steps"])
    assert gtc("op", "bundles", "add", "web", "--dry-run").status == 0
    assert gtc("op", "env", "update", "local", "--region", "eu", "--dry-run").status == 0
    assert gtc("op", "env", "show", "local").result == before
    assert not (gtc.root / "local" / "revisions").exists()


def test_guards_of_two_writers(gtc: CommandLine) -> None:
    gtc.init()
    shown = gtc("op", "env", "show", "local").result
    guarded = ("op", "env", "update", "local", "--region", "eu", "--expect-generation")
    assert gtc(*guarded, str(shown["generation"])).status == 0
    for region in ("us", "eu"):  # also when nothing would change
        late = gtc("op", "env", "update", "local", "--region", region, "--if-match", shown["etag"])
        assert late.status == 4, late.out
    assert gtc("op", "env", "show", "local").result["environment"]["host_config"]["region"] == "eu"


def test_the_same_key_has_one_effect(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    gtc.init()
    words = ("op", "deploy", "--bundle", str(bundles["v1"]), "web", "--idempotency-key", "order-1")
    first = gtc(*words).result
    again = gtc(*words).result
    assert again["revision_id"] == first["revision_id"]
    assert len(gtc("op", "revisions", "list", "web").result["revisions"]) == 1
    other = gtc("op", "deploy", "--bundle", str(bundles["v2"]), "web", "--idempotency-key", "order-1")
    assert other.status == 4


def test_an_answers_file_says_the_same_as_words(gtc: CommandLine, bundles: dict[str, Path], tmp_path: Path) -> None:
    two_versions(gtc, bundles)
    answers = tmp_path / "split.yaml"
    answers.write_text(
        "environment_id: local\ndeployment_id: web\nidempotency_key: k1\nupdated_by: night shift\n"
        "entries:\n  - {revision_id: v1, weight_percent: 75}\n  - {revision_id: v2, weight_bps: 2500}\n"
    )
    told = gtc("op", "traffic", "set", "--answers", str(answers)).result
    assert {one["name"]: one["weight_bps"] for one in told["entries"]} == {"v1": 7500, "v2": 2500}
    assert told["updated_by"] == "night shift"
    piped = gtc("op", "traffic", "show", "--answers", "-", stdin='{"deployment_id": "web"}').result
    assert piped["generation"] == told["generation"]
    unknown = gtc("op", "traffic", "show", "--answers", "-", stdin='{"deployment": "web"}')
    assert unknown.error["kind"] == "answers-parse"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("op", "traffic", "set", "web", "v2=1%"), 2),
        (("op", "traffic", "set", "web", "v2=60%", "v1=60%"), 2),
        (("op", "traffic", "set", "web", "v2=101%", "rest=v1"), 2),
        (("op", "traffic", "set", "web", "v9=100%"), 5),
        (("op", "traffic", "set", "shop", "v1=100%"), 5),
        (("op", "traffic", "set", "web", "v1=50%", "v1=50%"), 2),
        (("op", "traffic", "set", "web"), 2),
        (("op", "traffic", "rollback", "web", "--to", "99"), 4),
        (("op", "revisions", "drain", "web", "v1"), 4),
        (("op", "revisions", "warm", "web", "v7"), 5),
        (("op", "deploy", "--bundle", "nowhere.gtbundle", "web"), 5),
        (("op", "env", "show", "elsewhere"), 5),
        (("op", "env", "create", "local"), 4),
        (("op", "env", "create", "../x"), 2),
        (("op", "nonsense"), 2),
    ],
)
def test_bad_words_are_refused_by_kind_and_change_nothing(
    running: tuple[CommandLine, str], words: tuple[str, ...], status: int
) -> None:
    gtc, before = running
    refused = gtc(*words)
    assert refused.status == status, refused.err
    assert refused.error["message"]
    assert gtc("op", "env", "show", "local").result["etag"] == before


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Path]) -> Any:
    """One environment for all the refusals."""
    gtc = CommandLine(tmp_path_factory.mktemp("refusals"))
    two_versions(gtc, bundles)
    yield gtc, gtc("op", "env", "show", "local").result["etag"]
    gtc("stop")


def test_people_get_a_table_and_one_closing_line(gtc: CommandLine, bundles: dict[str, Path]) -> None:
    two_versions(gtc, bundles)
    told = gtc("op", "traffic", "set", "web", "v2=1%", "rest=v1", as_json=False)
    assert told.out.splitlines()[-1].startswith("live on 1/1 routers in ")
    assert told.out.splitlines()[-1].endswith("(generation 1)")
    tree = gtc("op", "status", as_json=False).out
    assert "v2" in tree
    assert "99%" in tree
    assert "\x1b" not in tree
    refused = gtc("op", "traffic", "set", "web", "v3=1%", "rest=v1", as_json=False)
    assert refused.err.startswith("error: 'web' has no revision 'v3'")
    assert "next: one of: v1, v2" in refused.err
