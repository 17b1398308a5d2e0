"""`gtc op explain` and `gtc op metrics`: what happened to one request, and what was counted of all."""

from __future__ import annotations

from typing import Any

import click

from greentic.cli.invocation import Invocation, need, verb

REASONS = {
    "preview": "a preview token named the revision",
    "header": "a trusted caller named the revision",
    "cookie": "the visitor's signed cookie promises this revision",
    "session": "the visitor's session is pinned to this revision",
    "slot": "the visitor's place in the table belongs to this revision",
    "key": "the visitor's key has its place in the part of the table that belongs to this revision",
    "sequence": "a new visitor: the next place in the fair sequence",
}


@click.command()
@click.argument("request_id", metavar="[REQUEST_ID]", required=False)
@click.option(
    "--record", type=click.Path(), metavar="FILE", help="Explain from what --json printed earlier; asks nobody."
)
@verb("explain", "show", view=lambda result: _view(result), answers={"request_id": "request_id", "record": "record"})
def explain(invocation: Invocation, request_id: str | None, record: str | None) -> Any:
    """Say which revision served a request and why, and make the decision again from its facts.

    The id is in the response's X-Request-Id.
    """
    from greentic.operations import explaining

    if record is not None:
        if request_id is not None:
            raise click.UsageError("Name a request or a record, not both.")
        return explaining.from_record(_read(record))
    return explaining.explain(invocation.context(), invocation.environment_id, need(request_id, "REQUEST_ID"))


@click.command()
@verb("metrics", "show", view=lambda result: click.echo(result["text"], nl=False))
def metrics(invocation: Invocation) -> Any:
    """Print what Prometheus would read; no port is needed. See also: config set --router metrics_addr=…"""
    from greentic.operations import runtime

    return runtime.metrics(invocation.context(), invocation.environment_id)


def _read(place: str) -> Any:
    import sys
    from pathlib import Path

    from greentic.spec.errors import InvalidArgument
    from greentic.spec.parsing import parse_json

    try:
        text = sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"the record {place} cannot be read: {error.strerror}") from None
    return parse_json(text, place)


def _view(result: Any) -> None:
    from greentic.cli.tables import line

    matches = result["matches"]
    if len(matches) > 1:
        line((f"{len(matches)} requests have this id, oldest first", "yellow"))
    for match in matches:
        _tell(match)


def _tell(match: Any) -> None:
    from greentic.cli.tables import line, milliseconds
    from greentic.spec.weights import format_share

    asked = f"{match['method'] or '?'} {match['host'] or ''}{match['path'] or ''}"
    colour = "green" if match["status"] and match["status"] < 400 else "red"
    took = milliseconds(match["milliseconds"])
    worker = match["upstream_milliseconds"]
    within = f" (the worker answered after {milliseconds(worker)})" if worker is not None else ""
    line((match["request_id"], "bold"), f"  {asked}  ", (str(match["status"] or "-"), colour), f"  {took}{within}")
    _row("when", f"{match['ended_at']} on {match['router']}, for {match['peer']}")
    deployment, revision = match["deployment"], match["revision"]
    if deployment is None:
        _row("served by", f"the router itself: {match['error'] or 'whether it is ready'}")
        return
    customer = f" ({deployment['customer_id']})" if deployment["customer_id"] else ""
    where = f"{deployment['bundle_id']}{customer}, generation {deployment['generation']}"
    if revision is None:
        _row("served by", f"the router itself: {match['error']}; for {where}")
    else:
        share = revision["weight_bps"]
        share_text = "" if share is None else f", share {format_share(share) if share else '0%'}"
        draining = ", draining" if revision["draining"] else ""
        _row("served by", f"{revision['name']} {revision['revision_id']} of {where}{share_text}{draining}")
        _row("because", f"{match['reason']}: {REASONS.get(match['reason'], match['reason'])}")
        if match["error"]:
            _row("failed", match["error"])
    if match.get("slot") is not None:
        _row("slot", f"{match['slot']} of 10,000")
    _row("cookie", _cookie(match.get("cookie")))
    _row("preview", _preview(match.get("preview")))
    if match.get("cookie_set"):
        _row("answered", "with a cookie that keeps the visitor there")
    if match["trace_id"]:
        _row("trace", match["trace_id"])
    replayed = match["replayed"]
    if replayed is None:
        _row("replay", "not possible: the facts of the decision are not known any more")
    elif replayed["agrees"]:
        _row("replay", "the same facts give the same decision")
    else:
        told = replayed["refusal"] or f"{replayed['name']} ({replayed['reason']})"
        line("  ", ("replay     the same facts give another decision: " + told, "red"))


def _row(name: str, text: str | None) -> None:
    from greentic.cli.tables import line

    if text:
        line("  ", (f"{name:<10} ", "dim"), text)


def _cookie(cookie: Any) -> str | None:
    if cookie is None:
        return None
    if not cookie["genuine"]:
        return str(cookie["why"])
    named = cookie["name"] or cookie["revision_id"]
    text = f"to {named}, of generation {cookie['generation']}, until {cookie['expires_at']}: {cookie['why']}"
    return str(text)


def _preview(preview: Any) -> str | None:
    if preview is None:
        return None
    return f"to {preview['revision_id']}" if preview["granted"] else str(preview["why"])
