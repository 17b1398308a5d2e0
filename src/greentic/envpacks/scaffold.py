"""The skeleton of a new env-pack: a complete project that works, with its tests, for each sort of slot.

What is written lies in `skeletons/` as the project of a made-up publisher, `acme_example`: real files, which are run
and checked as they are. Writing one copies them and puts the new names in the place of the made-up ones.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from greentic.envpacks.manifest import PATH
from greentic.spec.capabilities import Slot
from greentic.spec.errors import Conflict, InvalidArgument
from greentic.spec.references import PackDescriptor

LANGUAGES: Final = ("python", "executable")
SLOTS: Final = tuple(slot for slot in Slot if slot is not Slot.MESSAGING)
"""The slots that a skeleton is there for; messaging endpoints are bound in another way."""
_LONGEST = 100


def slot_of(path: str) -> Slot:
    """The slot that a path such as `acme.secrets.vault` names in its second part; the deployer when it names none."""
    parts = path.split(".")
    return next((slot for slot in SLOTS if len(parts) > 2 and parts[1] == slot.value), Slot.DEPLOYER)


def new(directory: Path, path: str, slot: Slot, language: str = "python") -> tuple[Path, ...]:
    """Write the project of the env-pack `path` for `slot` to `directory`; the files, sorted.

    InvalidArgument for a name, a slot or a language that cannot be, Conflict when the folder holds something. Nothing
    that was written stays when it fails.
    """
    module = _module(path)
    if slot not in SLOTS:
        raise InvalidArgument(f"there is no skeleton for the slot '{slot}'; there are {', '.join(SLOTS)}")
    if language not in LANGUAGES:
        raise InvalidArgument(f"'{language}' is no language; there are {', '.join(LANGUAGES)}")
    if language == "executable" and slot is not Slot.DEPLOYER:
        raise InvalidArgument(
            f"of an executable there is a skeleton for the slot deployer alone, not for {slot}",
            next_step="leave --language away for Python; docs/env-packs.md says how an executable is spoken to",
        )
    existed = directory.is_dir()
    if directory.is_symlink() or (directory.exists() and not existed) or (existed and any(directory.iterdir())):
        raise Conflict(
            f"{directory} is not empty",
            details={"path": str(directory)},
            next_step="name a folder that does not exist yet",
        )
    names = {
        "acme_example": module,
        "acme-example": module.replace("_", "-"),
        f"acme.{slot}.example": path,
        "acme.SLOT.example": path,
        "`SLOT`": f"`{slot}`",
        "Example": "".join(part.capitalize() for part in re.split(r"[.-]", path)[-1:]),
    }
    parts = ["python", slot.value] + (["executable"] if language == "executable" else [])
    files = {name: text for part in parts for name, text in _files(_skeletons() / part)}
    try:
        return tuple(sorted(_written(directory, name, text, names) for name, text in files.items()))
    except BaseException:
        for name in files:
            (directory / _named(name, names)).unlink(missing_ok=True)
        for inner in ("src", "tests"):
            shutil.rmtree(directory / inner, ignore_errors=True)
        if not existed and directory.is_dir():
            directory.rmdir()
        raise


def _module(path: str) -> str:
    """The name of the Python package of an env-pack; InvalidArgument when there can be none."""
    try:
        PackDescriptor.parse(f"{path}@0.1.0")
    except InvalidArgument as error:
        raise InvalidArgument(
            f"'{path[:_LONGEST]}' cannot name an env-pack: {error.message}",
            next_step="name it as you.slot.name, such as acme.deployer.nomad",
        ) from None
    module = re.sub(r"[.-]", "_", path)
    if path.startswith("greentic."):
        raise InvalidArgument("names that begin with 'greentic.' are those of greentic's own env-packs")
    if not PATH.fullmatch(path) or not module.isidentifier() or len(path) > _LONGEST:
        raise InvalidArgument(
            f"'{path[:_LONGEST]}' gives no name for a Python package",
            next_step="name it as you.slot.name, such as acme.deployer.nomad",
        )
    return module


def _skeletons() -> Traversable:
    return resources.files("greentic.envpacks") / "skeletons"


def _files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue  # a tool's cache, where this package lies in a clone
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _files(entry, f"{prefix}{entry.name}/")
        elif not entry.name.endswith(".pyc"):
            yield prefix + entry.name, entry.read_text(encoding="utf-8")


def _named(text: str, names: dict[str, str]) -> str:
    for made_up, real in names.items():
        text = text.replace(made_up, real)
    return text


def _written(directory: Path, name: str, text: str, names: dict[str, str]) -> Path:
    path = directory / _named(name, names)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_named(text, names), encoding="utf-8")
    if text.startswith("#!"):
        path.chmod(0o755)
    return path
