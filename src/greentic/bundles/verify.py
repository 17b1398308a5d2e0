"""Verifying an archive: everything that unpacking would insist on, as a list."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from greentic.bundles import contents
from greentic.bundles.admission import Budget
from greentic.bundles.contents import Check, OpenedPack
from greentic.bundles.limits import Limits
from greentic.bundles.refusals import Rule
from greentic.bundles.snapshot import Snapshot, snapshot
from greentic.bundles.unpack import entry_id
from greentic.spec.errors import BundleError

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The digest of what was verified ("sha256:…"), its bytes, and each check in the order it was made.

    A check that others rest on ends the list when it fails.
    """

    digest: str
    size_bytes: int
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check holds; warnings do."""
        return all(check.ok for check in self.checks)

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks that hold with a reservation."""
        return tuple(check for check in self.checks if check.warning)


def verify(
    archive: Path,
    *,
    expected_digest: str | None = None,
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> VerificationReport:
    """Verifies `archive`: its digest when one is expected (compared in constant time), the safety of every entry and
    of every entry of its packs, manifest and lock, that they agree, each pack's digest computed anew, each pack's
    manifest.

    The bytes that are hashed are the bytes that are judged (see `snapshot`). What is wrong with the archive is in the
    report. Raises NotFound, InvalidArgument and InputOutput when there is nothing to judge, and BundleError for a file
    larger than `limits.max_archive_bytes`, which is not read.
    """
    with (
        snapshot(Path(archive), limits) as held,
        tempfile.TemporaryDirectory(prefix="greentic-verify-") as scratch,
    ):
        examination = _Examination()
        examination.run(held, Path(scratch), limits, expected_digest)
        return VerificationReport(held.digest, held.size_bytes, tuple(examination.checks))


class _Examination:
    """The checks so far."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def run(self, held: Snapshot, root: Path, limits: Limits, expected_digest: str | None) -> None:
        if expected_digest is not None:
            self._step("digest", lambda: held.expect(expected_digest), lambda _: f"is {held.digest}")
        budget = Budget(limits)
        form = self._step(
            "archive",
            lambda: contents.unfold(held, root, limits, budget, whole=False),
            lambda form: f"{form.value}, {budget.entries} entries, {budget.total_bytes} bytes, all admitted",
        )
        if form is None:
            return
        manifest = self._step("manifest", lambda: contents.read_manifest(root), lambda _: "is sound")
        lock = self._step("lock", lambda: contents.read_lock(root), lambda _: "is sound")
        if manifest is None or lock is None:
            return
        agreement = contents.agreement(root, manifest, lock)
        self.checks += agreement
        if not all(check.ok for check in agreement):
            return
        packs: list[OpenedPack] = []
        for path in contents.pack_paths(root, manifest):

            def opening(path: str = path) -> OpenedPack:
                return contents.open_pack(root, path, manifest, lock, limits, budget, whole=False)

            pack = self._step(path, opening, _described)
            packs += [] if pack is None else [pack]
        if len(packs) == len(contents.pack_paths(root, manifest)):
            self.checks.append(_entry(manifest.entry, packs))

    def _step(self, name: str, run: Callable[[], Value], describe: Callable[[Value], str]) -> Value | None:
        try:
            value = run()
        except BundleError as error:
            self.checks.append(Check(name, False, error.message, rule=Rule(error.details["rule"])))
            return None
        self.checks.append(Check(name, True, describe(value)))
        return value


def _described(pack: OpenedPack) -> str:
    if pack.manifest.application is None:
        return "a pack of the reference, which cannot be run here"
    return f"{pack.manifest.pack_id} {pack.manifest.version}, {pack.manifest.application.kind}"


def _entry(named: str | None, packs: list[OpenedPack]) -> Check:
    """A bundle that cannot run here is sound all the same when it is one of the reference."""
    try:
        return Check("entry", True, entry_id(named, {pack.manifest.pack_id: pack.manifest.runnable for pack in packs}))
    except BundleError as error:
        foreign = not any(pack.manifest.runnable for pack in packs)
        return Check("entry", foreign, error.message, warning=foreign, rule=None if foreign else Rule.NO_ENTRY)
