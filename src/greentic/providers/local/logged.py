"""Requests as the access log tells them, for whoever asks after the routers have forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from greentic.router.ended import KEPT

REMEMBERS = (
    f"each router remembers its last {KEPT} requests until it is replaced; the access log, when it is on "
    "(gtc op config set --router access_log=true), about the last million"
)
_MATCHES = 100
_SHARED = (
    *("request_id", "trace_id", "peer", "method", "host", "path", "status", "error", "reason"),
    *("milliseconds", "upstream_milliseconds", "received_bytes", "sent_bytes"),
)


def find(log: Path, request_id: str) -> list[dict[str, Any]]:
    """What the log at `log` and the one before it tell of the requests with that id, oldest first, at most the last
    hundred; in the shape of `greentic.router.explaining.explanation` without what only routers know."""
    found = [_explanation(line) for file in (log.with_name(f"{log.name}.1"), log) for line in _lines(file, request_id)]
    return found[-_MATCHES:]


def _lines(file: Path, request_id: str) -> Iterator[dict[str, Any]]:
    # Looked for as text first: few lines are worth parsing.
    wanted = f'"request_id":{json.dumps(request_id)}'.encode()
    try:
        with file.open("rb") as lines:
            for line in lines:
                if wanted in line:
                    try:
                        document = json.loads(line)
                    except ValueError:
                        continue  # cut off by a full disk
                    if isinstance(document, dict) and document.get("request_id") == request_id:
                        yield document
    except FileNotFoundError:
        return


def _explanation(line: dict[str, Any]) -> dict[str, Any]:
    deployment = revision = None
    if line.get("deployment"):
        deployment = {
            "deployment_id": line["deployment"],
            "bundle_id": line.get("bundle"),
            "customer_id": None,
            "generation": line.get("generation"),
        }
    if line.get("revision"):
        revision = {
            "revision_id": line["revision"],
            "name": line.get("name"),
            "draining": None,
            "weight_bps": None,
        }
    told = {key: line.get(key) for key in _SHARED}
    return {
        **told,
        "ended_at": line.get("time"),
        "deployment": deployment,
        "revision": revision,
        "router": f"process {line.get('router_pid')}",
    }
