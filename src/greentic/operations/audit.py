"""The audit log: look at it, check it, hand it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from greentic.operations import heads as signed_heads
from greentic.operations import trust_root
from greentic.operations.context import Context
from greentic.operations.heads import CheckedHead
from greentic.operations.kept import kept
from greentic.operations.kept import trail as _trail
from greentic.spec.errors import CorruptDocument, GreenticError, NotFound
from greentic.store import segments
from greentic.store.audit import AuditReport, verify
from greentic.trust import root as trust
from greentic.trust.root import TrustRoot


def tail(context: Context, environment_id: str, count: int) -> dict[str, Any]:
    """The newest entries, oldest first."""
    return {"environment_id": environment_id, "events": list(_trail(context, environment_id).tail(count))}


def show(context: Context, environment_id: str, wanted: str) -> dict[str, Any]:
    """Every entry whose event id begins with `wanted`, or whose sequence or idempotency key it is; NotFound if none."""
    found = [event for event in _trail(context, environment_id).events() if _matches(event, wanted)]
    if not found:
        raise NotFound(
            f"the audit log of '{environment_id}' has no entry '{wanted}'",
            next_step=f"gtc op audit tail --env {environment_id}",
        )
    return {"environment_id": environment_id, "events": found}


def check(context: Context, environment_id: str, head: Path | None = None) -> dict[str, Any]:
    """Check the chain of the environment against its last change and against its signed head, or the one in `head`.

    A head that was kept elsewhere also shows a log that was cut back together with everything beside it.
    CorruptDocument naming the first bad entry when it does not hold, or the head when that is not what it should be.
    """
    trail, store = _trail(context, environment_id), kept(context)
    # Read before the log: what is written meanwhile may be behind the log, never ahead of it.
    data = store.head(environment_id) if head is None else _content(head)
    report = store.verify_audit(environment_id)
    environment = store.load(environment_id).environment
    root = trust_root.present(environment, context.store.files(environment_id))
    signed = None if data is None else _signed(data, root, environment_id)
    if report.ok and signed is not None and signed.anchor != report.head:
        report = trail.verify(signed.anchor)
    return _verdict(environment_id, report, signed)


def check_export(
    context: Context, path: Path, *, trusted: Path | None = None, environment_id: str | None = None
) -> dict[str, Any]:
    """Check an exported log, offline, and the signed head that it ends with.

    Whose signature counts says the trust root in the file `trusted`, or that of an environment here; without either the
    head is told as `unchecked`. CorruptDocument as `check`.
    """
    if not path.is_file():
        raise NotFound(f"there is no log at {path}")
    root = None
    if trusted is not None:
        root = trust.read(_content(trusted), str(trusted))
    elif environment_id is not None:
        environment = context.store.load(environment_id).environment
        root = trust_root.present(environment, context.store.files(environment_id))
    data = signed_heads.at_end_of(path)
    if data is None and trusted is not None:
        raise CorruptDocument(
            f"{path} does not end with a signed head, so no signature stands behind it",
            next_step="export it from an environment that trusts your operator key: gtc op audit export -o FILE",
        )
    signed = None if data is None else _signed(data, root, _environment_of(path))
    return _verdict(None, verify(path, anchor=None if signed is None else signed.anchor), signed)


def _verdict(environment_id: str | None, report: AuditReport, signed: CheckedHead | None) -> dict[str, Any]:
    told = {
        "environment_id": environment_id,
        **asdict(report),
        "signed_head": None if signed is None else signed.document(),
        "ok": report.ok,
    }
    if report.finding is not None:
        finding = report.finding
        raise CorruptDocument(
            f"the audit log does not verify: {finding.file} line {finding.line}: {finding.reason}",
            details=told,
            next_step="compare with an exported copy; nothing can mend a chain that was changed",
        )
    return told


def export(context: Context, environment_id: str, target: BinaryIO, since: int) -> int:
    """Write the entries after sequence `since` as JSON lines that `check_export` accepts; how many.

    The last line is the signed head, when there is one and its entry is among them.
    """
    trail = _trail(context, environment_id)
    head = kept(context).head(environment_id)  # before the log, so that its entry is there
    count = trail.export(target, since)
    if head is not None and since < (signed_heads.sequence_of(head) or 0):
        target.write(signed_heads.line_of(head))
    return count


def events(context: Context, environment_id: str, since: int) -> Iterator[Mapping[str, Any]]:
    """The entries after sequence `since`, oldest first."""
    return _trail(context, environment_id).events(since)


def _signed(data: bytes, root: TrustRoot | None, environment_id: str) -> CheckedHead:
    try:
        return signed_heads.check(data, root, environment_id)
    except (GreenticError, ValueError) as error:
        why = error.message if isinstance(error, GreenticError) else str(error)
        raise CorruptDocument(
            f"the signed head of the audit log cannot be trusted: {why}",
            details={"environment_id": environment_id, "reason": why},
            next_step="compare with an exported copy; if the log is sound, the next change signs a new head",
        ) from None


def _environment_of(path: Path) -> str:
    """Whose log an export is: what its first entry says."""
    with path.open("rb") as file:
        entry = segments.parse(file.readline())
    return "" if entry is None else str(entry.event.get("env_id"))


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(trust.MAX_BYTES + 1)


def _matches(event: Mapping[str, Any], wanted: str) -> bool:
    return (
        str(event.get("event_id", "")).startswith(wanted.upper())
        or str(event.get("sequence")) == wanted
        or event.get("idempotency_key") == wanted
    )
