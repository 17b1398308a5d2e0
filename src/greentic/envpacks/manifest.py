"""The manifest of an env-pack that is an executable: `env-pack.json`, its files, and its signature.

    PACK/env-pack.json        greentic.env-pack.v1: what it is, how it is started, the digest of every file
    PACK/env-pack.json.sig    a DSSE envelope over an in-toto statement about the digest of the manifest's bytes
    PACK/…                    the files

The signature stands for the manifest, the manifest for the files: whoever trusts the signer trusts exactly these bytes.
A file that the manifest does not name is no part of the env-pack. Links are no files.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from greentic.envpacks.versions import VersionRange
from greentic.envpacks.wire import PROTOCOL
from greentic.spec.capabilities import Slot
from greentic.spec.errors import CorruptDocument, InputOutput, NotFound, SpecViolation
from greentic.spec.identifiers import SemVer
from greentic.spec.integrity import content_digest
from greentic.spec.parsing import Document, Flag, Json, Text, parse, parse_json
from greentic.trust import dsse, statement
from greentic.trust.errors import NotTrusted, SignatureInvalid
from greentic.trust.keys import OperatorKey
from greentic.trust.public import PublicKey

MANIFEST: Final = "env-pack.json"
SIGNATURE: Final = "env-pack.json.sig"
SCHEMA: Final = "greentic.env-pack.v1"
PREDICATE: Final = "greentic.env-pack-predicate.v1"
MAX_MANIFEST: Final = 1024 * 1024
MAX_FILES: Final = 4_096
MAX_BYTES: Final = 512 * 1024 * 1024
"""Bytes of all files together."""
LONGEST_SECONDS: Final = 24 * 3600

PATH: Final = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*", re.ASCII)
"""What an env-pack that we write or install may be named."""
_LONGEST = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,127}", re.ASCII)
_LOADERS = ("LD_", "DYLD_", "PYTHON", "GTC_", "GREENTIC_")
"""Variables by which somebody would choose the code that runs, or that are ours."""
_SLOTS = tuple(slot.value for slot in Slot if slot is not Slot.MESSAGING)
_LEFT_OUT = {MANIFEST, SIGNATURE, "__pycache__"}


def _file_name(value: str) -> str:
    parts = value.split("/")
    if len(parts) > 32 or len(value) > 1_024 or not all(_NAME.fullmatch(part) for part in parts):
        raise ValueError("a file is named by parts of A-Z a-z 0-9 . _ + - that begin with none of . + -")
    if parts[-1] in _LEFT_OUT:
        raise ValueError("the manifest and its signature are no files of the env-pack")
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value) or value.startswith(_LOADERS):
        raise ValueError(f"'{value[:40]}' is no variable that can be passed on")
    return value


def _range(value: str) -> str:
    return VersionRange.parse(value).text


def _path(value: str) -> str:
    """A descriptor path that is also the name of a folder: `..` is a path by the letter of the descriptor's rule."""
    if not PATH.fullmatch(value) or "." not in value or len(value) > _LONGEST:
        raise ValueError("a path has parts of a-z and 0-9, joined by '.' or '-', and at least one dot")
    return value


FileName = Annotated[str, AfterValidator(_file_name)]


class PackFile(Document):
    """One file: `sha256:<hex>` of its bytes, how many they are, and whether it can be executed."""

    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, le=MAX_BYTES, strict=True)]
    executable: Flag = False


class PackCapability(Document):
    """Something that the env-pack must be allowed to do, as an administrator reads it."""

    id: Annotated[Text, Field(min_length=1)]
    description: Text


class PackManifest(Document):
    """What an executable says of itself.

    `versions` are the descriptor versions it serves, `version` is that of this release. `command` is run in the
    env-pack's folder; its first word is one of `files`. `variables` names what of the operator's environment it is
    given beside the few that every program gets. `answers` is the JSON Schema of a binding's answers. `timeouts` are
    seconds by verb, where the usual ones do not fit. `bench` starts a program that looks at the provider's world for
    the driving test.
    """

    schema_: Literal["greentic.env-pack.v1"] = Field(SCHEMA, alias="schema")
    path: Annotated[str, AfterValidator(_path)]
    slot: Literal[
        Slot.DEPLOYER, Slot.SECRETS, Slot.SESSIONS, Slot.STATE, Slot.TELEMETRY, Slot.REVOCATION, Slot.EXTENSION
    ]
    versions: Annotated[str, AfterValidator(_range)]
    version: SemVer
    protocol: Literal[1] = PROTOCOL
    summary: Annotated[Text, Field(max_length=200)] = ""
    command: Annotated[tuple[Annotated[str, Field(max_length=4_096)], ...], Field(min_length=1, max_length=64)]
    files: Annotated[dict[FileName, PackFile], Field(max_length=MAX_FILES)] = Field(default_factory=dict)
    variables: Annotated[tuple[Annotated[str, AfterValidator(_variable)], ...], Field(max_length=64)] = ()
    answers: dict[str, Json] | None = None
    capabilities: Annotated[tuple[PackCapability, ...], Field(max_length=1_000)] = ()
    bench: Annotated[tuple[Annotated[str, Field(max_length=4_096)], ...], Field(max_length=64)] = ()
    timeouts: dict[str, Annotated[int, Field(ge=1, le=LONGEST_SECONDS, strict=True)]] = Field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The manifest as it is stored: JSON, indented by two, ended by a newline."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False).encode() + b"\n"


def read(folder: Path) -> tuple[PackManifest, bytes]:
    """The manifest in `folder` and its very bytes; NotFound, SpecViolation, InputOutput."""
    data = read_file(folder / MANIFEST, MAX_MANIFEST)
    if data is None:
        raise NotFound(
            f"there is no {MANIFEST} in {folder}",
            details={"path": str(folder)},
            next_step="name the folder of an env-pack; gtc env-pack new NAME --language executable writes one",
        )
    return parsed(data, str(folder / MANIFEST)), data


def parsed(data: bytes, what: str) -> PackManifest:
    """The manifest in its bytes; SpecViolation."""
    document = parse_json(data, what)
    slot = document.get("slot") if isinstance(document, dict) else None
    if slot == Slot.EXTENSION.value and not document.get("bench"):
        raise SpecViolation(
            "Slot",
            f"{what}: there is nothing to ask an executable in the slot extension, unless it offers a bench",
            next_step="write it as a Python distribution: gtc env-pack new NAME --slot extension",
        )
    if slot is not None and slot not in _SLOTS:
        raise SpecViolation(
            "Slot",
            f"{what}: an executable cannot fill the slot '{str(slot)[:40]}'; it can fill {', '.join(_SLOTS)}",
        )
    return parse(PackManifest, document, what)


def complete(manifest: PackManifest, what: str) -> None:
    """SpecViolation unless the programs of the manifest are files of it, executable, and all of it is small enough."""
    for member, words in (("command", manifest.command), ("bench", manifest.bench)):
        found = manifest.files.get(words[0].removeprefix("./")) if words else None
        if words and (found is None or not found.executable):
            raise SpecViolation(
                "Command",
                f"{what}: the {member} begins with '{words[0][:100]}', which is no executable file of it",
                next_step="chmod +x the program, then gtc env-pack seal FOLDER writes down its files",
            )
    if sum(file.size for file in manifest.files.values()) > MAX_BYTES:
        raise SpecViolation("TooLarge", f"{what}: the files are larger than {MAX_BYTES:,} bytes")


def read_file(path: Path, limit: int) -> bytes | None:
    """The bytes of a regular file that is no link, None when there is none; InputOutput, SpecViolation."""
    try:
        # Not blocking: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputOutput(f"{path} cannot be read: {error.strerror}", details={"path": str(path)}) from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputOutput(f"{path} is not a regular file", details={"path": str(path)})
        data = file.read(limit + 1)
    if len(data) > limit:
        raise SpecViolation("TooLarge", f"{path} is larger than {limit:,} bytes")
    return data


def verified(folder: Path, name: str, wanted: PackFile) -> bytes:
    """The bytes of one file, which are those that the manifest names; CorruptDocument otherwise, InputOutput."""
    try:
        data = read_file(folder / name, wanted.size)
    except SpecViolation:
        data = b""  # larger than it may be
    if data is None:
        raise CorruptDocument(f"{folder / name} is missing", details={"path": str(folder / name)})
    if len(data) != wanted.size or content_digest(data) != wanted.digest:
        raise CorruptDocument(
            f"{folder / name} is not the file that the manifest names: its digest differs",
            details={"path": str(folder / name), "expected": wanted.digest},
            next_step="take the env-pack from where it was made; do not use this copy",
        )
    return data


def listed(folder: Path) -> dict[str, PackFile]:
    """Every file of the env-pack in `folder`, for its manifest; what begins with a dot is left out. As `read_file`;
    SpecViolation for a name that a manifest cannot hold, or a link.
    """
    found: dict[str, PackFile] = {}
    left = MAX_BYTES
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise SpecViolation("Link", f"{path} is a symbolic link; an env-pack holds plain files")
        try:
            _file_name(name)
        except ValueError as error:
            raise SpecViolation("FileName", f"{path}: {error}") from None
        data = read_file(path, left)
        assert data is not None
        left -= len(data)
        executable = bool(path.stat().st_mode & stat.S_IXUSR)
        found[name] = PackFile(digest=content_digest(data), size=len(data), executable=executable)
        if len(found) > MAX_FILES:
            raise SpecViolation("TooMany", f"{folder} holds more than {MAX_FILES:,} files")
    return found


def _walk(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _LEFT_OUT or path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def sign(manifest: PackManifest, data: bytes, key: OperatorKey) -> bytes:
    """The envelope under the manifest of these bytes."""
    predicate = {"schema": PREDICATE, "version": manifest.version, "slot": manifest.slot.value}
    about = statement.about(manifest.path, content_digest(data), PREDICATE, predicate)
    return statement.sign(about, key).to_bytes()


def signers(data: bytes, envelope: bytes | None, trusted: Iterable[PublicKey], what: str) -> tuple[str, ...]:
    """The ids of the `trusted` keys that signed the manifest of these bytes, sorted, at least one.

    NotTrusted when nobody signed, or nobody who is trusted; SignatureInvalid when the signature is under other bytes.
    """
    if envelope is None:
        raise NotTrusted(
            f"{what} is not signed",
            reason="unsigned",
            next_step="ask its publisher to sign it with gtc env-pack seal; or add --unsigned to vouch for it yourself",
        )
    signed = statement.verify(dsse.read(envelope, f"the signature of {what}"), trusted, PREDICATE)
    if not statement.subject_matches(signed.statement, content_digest(data)):
        raise SignatureInvalid(
            f"the signature of {what} is under another manifest: the content was changed after it was signed",
            reason="signature-invalid",
            details={"key_ids": list(signed.key_ids)},
            next_step="take the env-pack from where it was made; do not use this copy",
        )
    return signed.key_ids
