"""Building: the same source gives the same bytes, and unpacking gives the source back."""

from __future__ import annotations

import fnmatch
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from greentic.bundles.build import build
from greentic.bundles.ignored import ALWAYS, IGNORE_FILE
from greentic.bundles.inspect import inspect
from greentic.bundles.unpack import unpack
from greentic.bundles.verify import verify

NAMES = st.text(
    st.one_of(
        st.sampled_from("abc 01._-+@~,;=()[]{}$%&'!äßé日𝔘"),
        st.characters(categories=["Ll", "Lo", "Nd"]),
    ),
    min_size=1,
    max_size=12,
)


def admissible(name: str) -> bool:
    """Names that the build neither refuses nor leaves out."""
    return name not in (".", "..") and not name.endswith("~") and name.casefold() not in ("pack.json", "pack.yaml")


PATHS = st.lists(NAMES.filter(admissible), min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.tuples(st.binary(max_size=300), st.booleans()), max_size=8)


def fits(files: dict[str, tuple[bytes, bool]]) -> dict[str, tuple[bytes, bool]]:
    """Those files that can stand beside each other on any file system."""
    import unicodedata

    def fold(path: str) -> str:
        return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())

    taken: dict[str, tuple[str, bool]] = {"main.py": ("main.py", False)}
    kept = {}
    for path, content in files.items():
        parts = path.split("/")
        places = [("/".join(parts[: end + 1]), end + 1 < len(parts)) for end in range(len(parts))]
        if all(taken.get(fold(place), (place, folder)) == (place, folder) for place, folder in places) and (
            fold(path) not in taken
            and not any(fnmatch.fnmatchcase(part, left_out) for part in path.split("/") for left_out in LEFT_OUT)
        ):
            taken.update({fold(place): (place, folder) for place, folder in places})
            kept[path] = content
    return kept


LEFT_OUT = (*ALWAYS, IGNORE_FILE)


def write(folder: Path, files: dict[str, tuple[bytes, bool]], order: list[str], *, times: int, mask: int) -> None:
    pack = folder / "packs/web"
    pack.mkdir(parents=True)
    (folder / "bundle.yaml").write_text("bundle_id: web\nversion: 1.0.0\n")
    (pack / "pack.yaml").write_text("pack_id: web\nversion: 1.0.0\napplication: {kind: asgi, app: main:app}\n")
    (pack / "main.py").write_text("app = None\n")
    for path in order:
        data, executable = files[path]
        target = pack / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod((0o777 if executable else 0o666) & ~mask)
        os.utime(target, (times, times))


@settings(max_examples=20, deadline=None)
@given(
    files=FILES.map(fits),
    shuffled=st.randoms(use_true_random=False),
    times=st.integers(0, 2**32),
    mask=st.sampled_from([0, 0o022, 0o077]),
    where=NAMES.filter(admissible),
)
def test_same_source_same_bytes_and_back(files, shuffled, times, mask, where):
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        write(base / "one", files, sorted(files), times=0, mask=0o022)
        order = list(files)
        shuffled.shuffle(order)
        write(base / "two" / where, files, order, times=times, mask=mask)
        one = build(base / "one", base / "1.gtbundle")
        two = build(base / "two" / where, base / "2.gtbundle")
        assert one.path.read_bytes() == two.path.read_bytes()
        assert (one.digest, one.packs) == (two.digest, two.packs)

        unpacked = unpack(one.path, base / "out", expected_digest=two.digest)
        found = {
            path.relative_to(unpacked.entry.directory).as_posix(): (
                path.read_bytes(),
                bool(path.stat().st_mode & 0o100),
            )
            for path in unpacked.entry.directory.rglob("*")
            if path.is_file()
        }
        del found["pack.json"]
        assert found == {**files, "main.py": (b"app = None\n", False)}
        assert verify(one.path, expected_digest=one.digest).ok
        assert inspect(one.path).files == len(files) + 5
        shutil.rmtree(base / "out")


@settings(max_examples=12, deadline=None)
@given(
    files=FILES.map(fits).filter(bool),
    pick=st.randoms(use_true_random=False),
    change=st.sampled_from(["content", "mode", "name", "gone"]),
)
def test_another_source_has_another_digest(files, pick, change):
    path = pick.choice(sorted(files))
    other = dict(files)
    data, executable = other.pop(path)
    if change == "content":
        other[path] = (data + b"x", executable)
    elif change == "mode":
        other[path] = (data, not executable)
    elif change == "name":
        other[path + "x"] = (data, executable)
        if fits(other) != other:
            return
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        write(base / "one", files, list(files), times=0, mask=0)
        write(base / "two", other, list(other), times=0, mask=0)
        assert build(base / "one", base / "1").digest != build(base / "two", base / "2").digest
