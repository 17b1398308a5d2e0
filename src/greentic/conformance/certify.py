"""Certify a deployer: choose the checks, run them, write down what was found."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Final

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
    """A deployer that can be tested; `looker` says who looks at what it does, as the certificate names it."""

    pack: EnvPack
    open_bench: OpenBench
    looker: str = ""


PROCESSES: Final = "processes"
"""The bench of greentic itself: the processes of this machine."""


def candidate(registry: Registry, kind: str, bench: str | None = None) -> Candidate:
    """The deployer that `kind` names (a path, or `path@version`), and who looks: its own bench, or for an executable
    `bench`: PROCESSES, or another executable that offers one.

    NotFound when nothing installed offers it, Conflict when it is no deployer or nobody could look.
    """
    path, _, version = kind.partition("@")
    named = registry.named(path)
    if named is None:
        raise registry.unknown(kind)
    pack = registry.resolve(f"{path}@{version}" if version else named.descriptor, Slot.DEPLOYER)
    if bench is not None:
        return _looked_at(registry, pack, bench)
    if pack.bench is None:
        raise Conflict(
            f"'{path}' offers no bench, so nobody can look at what it does",
            details={"kind": kind},
            next_step=(
                f"name one: --bench {PROCESSES} when its workers are processes of this machine, or an env-pack"
                if pack.executable is not None
                else "offer one as EnvPack.bench: see docs/conformance.md"
            ),
        )
    return Candidate(pack, pack.bench, f"the bench of {_offered(registry, path)}, which is the deployer's own")


def _looked_at(registry: Registry, pack: EnvPack, bench: str) -> Candidate:
    from greentic.envpacks.program_bench import open_bench, open_processes

    if pack.executable is None:
        raise Conflict(f"'{pack.path}' is no executable: its bench is its own", next_step="leave --bench away")
    if bench == PROCESSES:
        looker = f"greentic {version_of('greentic')}: the processes of this machine"
        return Candidate(pack, partial(open_processes, pack.executable), looker)
    other = registry.named(bench.partition("@")[0])
    if other is None:
        raise registry.unknown(bench)
    if other.executable is None or not other.executable.manifest.bench:
        raise Conflict(
            f"'{other.path}' offers no bench that could look at another's deployer",
            next_step="its manifest names the program as 'bench': see docs/env-packs.md",
        )
    looker = f"the bench of {_offered(registry, other.path)}"
    looker += ", which is the deployer's own" if other.path == pack.path else ""
    return Candidate(pack, partial(open_bench, other.executable, pack.executable), looker)


def _offered(registry: Registry, path: str) -> str:
    """An env-pack as a certificate names it: with the digest of the bytes that ran, where there is one."""
    origin = next((offer.origin() for offer in registry.offers() if offer.path == path), None)
    if origin is None:
        return path
    if origin.digest is None:
        return f"{path} ({origin.name} {origin.version})"
    signed = f"signed by {', '.join(origin.signed_by)}" if origin.signed_by else "signed by nobody"
    return f"{path} {origin.version} ({origin.digest}, {signed})"


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
    return reporting.report(subject.pack, origin, whole, parts, verdicts, began, seconds, subject.looker)


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
