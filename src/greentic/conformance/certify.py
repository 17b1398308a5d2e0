"""Certify a deployer: choose the checks, run them, write down what was found."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from greentic.conformance import report as reporting
from greentic.conformance.checking import PROFILES, Check, checks
from greentic.conformance.runner import OpenBench, Told, examine
from greentic.envpacks.registry import EnvPack, Registry
from greentic.spec.capabilities import Slot
from greentic.spec.conformance_report import ConformanceReport
from greentic.spec.errors import Conflict, InputOutput, InvalidArgument
from greentic.spec.integrity import content_digest
from greentic.store.clock import wall_clock


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployer that can be tested."""

    pack: EnvPack
    open_bench: OpenBench


def candidate(registry: Registry, kind: str) -> Candidate:
    """The deployer that `kind` names (a path, or `path@version`).

    NotFound when nothing installed offers it, Conflict when it is no deployer or offers no bench.
    """
    path, _, version = kind.partition("@")
    named = registry.named(path)
    if named is None:
        raise registry.unknown(kind)
    pack = registry.resolve(f"{path}@{version}" if version else named.descriptor, Slot.DEPLOYER)
    if pack.bench is None:
        raise Conflict(
            f"'{path}' offers no bench, so nobody can look at what it does",
            details={"kind": kind},
            next_step="offer one as EnvPack.bench: see docs/conformance.md",
        )
    return Candidate(pack, pack.bench)


def chosen(profiles: Sequence[str] = (), names: Sequence[str] = ()) -> tuple[Check, ...]:
    """The checks of `profiles` (all for none), of those only `names` when there are any. InvalidArgument."""
    for profile in profiles:
        if profile not in PROFILES:
            raise InvalidArgument(f"there is no profile '{profile}'; there is {', '.join(PROFILES)}")
    found = checks(tuple(one for one in PROFILES if one in profiles) or PROFILES)
    known = {one.name for one in found}
    for name in names:
        if name not in known:
            raise InvalidArgument(
                f"there is no check '{name}' in these profiles", next_step="gtc conformance list shows all of them"
            )
    return tuple(one for one in found if not names or one.name in names)


async def certify(registry: Registry, subject: Candidate, asked: Sequence[Check], told: Told) -> ConformanceReport:
    """Take `subject` through the checks that are asked for. A profile of which some were left out is not claimed."""
    began, clock = wall_clock(), time.monotonic()
    verdicts = await examine(asked, subject.pack.descriptor, subject.open_bench, told)
    names = {one.name for one in asked}
    whole = [one for one in PROFILES if all(check.name in names for check in checks((one,)))]
    parts = [one for one in PROFILES if one not in whole and any(check.profile == one for check in asked)]
    origin = next((offer.origin() for offer in registry.offers() if offer.path == subject.pack.path), None)
    seconds = time.monotonic() - clock
    return reporting.report(subject.pack, origin, whole, parts, verdicts, began, seconds)


def prepare(folder: Path) -> None:
    """Make the folder that the report will be written to: a test of minutes is not to end without one. InputOutput."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from None


def write(folder: Path, found: ConformanceReport) -> tuple[Path, ...]:
    """Write `report.json`, `certificate.md` and `certificate.txt` into `folder`; InputOutput when it cannot be."""
    data = (json.dumps(found.to_json(), indent=2, ensure_ascii=False) + "\n").encode()
    digest = content_digest(data)
    pages = {
        "report.json": data,
        "certificate.md": reporting.markdown(found, digest).encode(),
        "certificate.txt": reporting.text(found, digest).encode(),
    }
    prepare(folder)
    try:
        for name, content in pages.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return tuple(folder / name for name in pages)


def _unwritable(folder: Path, error: OSError) -> InputOutput:
    return InputOutput(
        f"the report cannot be written to {folder}: {error.strerror}", next_step="name another folder with --out"
    )
