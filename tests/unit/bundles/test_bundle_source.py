"""What authors write: bundle.yaml, pack.yaml, .gtignore and the files beside them."""

from __future__ import annotations

import os
import socket
import textwrap

import pytest

from greentic.bundles.authored import ENVIRONMENT_SETTINGS
from greentic.bundles.build import build
from greentic.bundles.manifest import ProcessApplication
from greentic.bundles.scaffold import init
from greentic.bundles.source import read_source
from greentic.bundles.unpack import unpack
from greentic.spec.errors import GreenticError, InvalidArgument, NotFound

PACK = """\
pack_id: web
version: 1.0.0
kind: application
application:
  kind: asgi
  app: main:app
"""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    init(folder, "web")
    return folder


def write_pack(source, text):
    (source / "packs/web/pack.yaml").write_text(textwrap.dedent(text))


def refused(source) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        read_source(source)
    return caught.value


def problems(source) -> dict[str, str]:
    return {item["path"]: item["problem"] for item in refused(source).details["problems"]}


@pytest.mark.parametrize("key", ENVIRONMENT_SETTINGS)
@pytest.mark.parametrize("where", ["bundle.yaml", "pack.yaml", "application", "health"])
def test_environment_setting_is_refused_by_name(source, key, where):
    if where == "bundle.yaml":
        path = source / where
        path.write_text(path.read_text() + f"{key}: [a]\n")
        place = key
    else:
        indent = "" if where == "pack.yaml" else f"{where}:\n  "
        text = PACK.replace("application:\n  ", f"application:\n  {key}: 1\n  ") if where == "application" else ""
        write_pack(source, text or f"{PACK}{indent}{key}: 1\n")
        place = key if where == "pack.yaml" else f"{where}.{key}"
    found = problems(source)
    assert list(found) == [place]
    assert "environment setting" in found[place]


def test_environment_setting_in_a_question(source):
    write_pack(source, PACK + "setup:\n  - name: x\n    region: eu\n")
    assert list(problems(source)) == ["setup[0].region"]


def test_unknown_keys_are_refused_with_the_known_ones(source):
    write_pack(source, PACK + "licence: MIT\n")
    known = "application, capabilities, health, kind, pack_id, publisher, setup, version"
    assert problems(source) == {"licence": f"unknown key; known keys: {known}"}
    write_pack(source, PACK + "  vendored: x\n")
    assert problems(source) == {"application.vendored": "unknown key; known keys: app, dependencies, kind, vendor"}
    write_pack(source, PACK + "health: {route: /x}\n")
    assert problems(source) == {"health.route": "unknown key; known keys: path, timeout_seconds"}
    write_pack(source, PACK + "setup:\n- {name: a, constraint: {regex: x}}\n")
    assert problems(source) == {
        "setup[0].constraint.regex": "unknown key; known keys: max, max_len, min, min_len, pattern"
    }
    (source / "bundle.yaml").write_text("bundle_id: web\nversion: 1.0.0\nname: x\n")
    assert problems(source)["name"] == "unknown key; known keys: bundle_id, bundle_name, entry, locale, version"


def test_unknown_kind_names_the_kinds_known(source):
    write_pack(source, PACK.replace("asgi", "wasm"))
    assert problems(source) == {"application": "unknown kind 'wasm'; known kinds: 'asgi', 'process'"}


PROBLEMS = {
    "a version that yaml reads as a number": (PACK.replace("1.0.0", "1.0"), "version"),
    "no semantic version": (PACK.replace("1.0.0", "v1"), "version"),
    "leading zero": (PACK.replace("1.0.0", "1.02.0"), "version"),
    "no application": ("pack_id: web\nversion: 1.0.0\n", "(the document)"),
    "no kind of application": (PACK.replace("  kind: asgi\n", ""), "application"),
    "entry point": (PACK.replace("main:app", "main.app"), "application.app"),
    "entry point with a path": (PACK.replace("main:app", "../main:app"), "application.app"),
    "requirement that is an option": (PACK + "  dependencies: [--index-url=http://x]\n", "application.dependencies[0]"),
    "vendor outside": (PACK + "  vendor: ../x\n", "application.vendor"),
    "vendor absolute": (PACK + "  vendor: /x\n", "application.vendor"),
    "no command": (PACK.replace("asgi", "process").replace("app: main:app", "command: []"), "application.command"),
    "command is a string": (
        PACK.replace("asgi", "process").replace("app: main:app", "command: ./x"),
        "application.command",
    ),
    "health path": (PACK + "health: {path: healthz}\n", "health.path"),
    "health path of another host": (PACK + "health: {path: //evil/x}\n", "health.path"),
    "health timeout": (PACK + "health: {timeout_seconds: 0}\n", "health.timeout_seconds"),
    "health timeout is a word": (PACK + "health: {timeout_seconds: soon}\n", "health.timeout_seconds"),
    "capability": (PACK + "capabilities: [Secrets]\n", "capabilities[0]"),
    "capability twice": (PACK + "capabilities: [state, state]\n", "capabilities"),
    "secret with a default": (PACK + "setup: [{name: a, secret: true, default: x}]\n", "setup[0]"),
    "secret that is a number": (PACK + "setup: [{name: a, secret: true, type: integer}]\n", "setup[0]"),
    "default of another type": (PACK + "setup: [{name: a, type: integer, default: x}]\n", "setup[0]"),
    "boolean as an integer": (PACK + "setup: [{name: a, type: integer, default: true}]\n", "setup[0]"),
    "default breaks the constraint": (
        PACK + "setup: [{name: a, type: integer, default: 9, constraint: {max: 8}}]\n",
        "setup[0]",
    ),
    "default not among the choices": (PACK + "setup: [{name: a, type: enum, choices: [b], default: c}]\n", "setup[0]"),
    "enum without choices": (PACK + "setup: [{name: a, type: enum}]\n", "setup[0]"),
    "choices of a string": (PACK + "setup: [{name: a, choices: [b]}]\n", "setup[0]"),
    "choice twice": (PACK + "setup: [{name: a, type: enum, choices: [b, b]}]\n", "setup[0]"),
    "constraint that means nothing": (PACK + "setup: [{name: a, constraint: {min: 1}}]\n", "setup[0]"),
    "pattern": (PACK + "setup: [{name: a, constraint: {pattern: '('}}]\n", "setup[0].constraint"),
    "min above max": (PACK + "setup: [{name: a, type: number, constraint: {min: 2, max: 1}}]\n", "setup[0].constraint"),
    "min not finite": (PACK + "setup: [{name: a, type: number, constraint: {min: .inf}}]\n", "setup[0].constraint"),
    "lengths": (PACK + "setup: [{name: a, constraint: {min_len: 2, max_len: 1}}]\n", "setup[0].constraint"),
    "question twice": (PACK + "setup: [{name: a}, {name: a}]\n", "(the document)"),
    "question type": (PACK + "setup: [{name: a, type: date}]\n", "setup[0].type"),
    "question name": (PACK + "setup: [{name: 'a b'}]\n", "setup[0].name"),
    "required as a word": (PACK + "setup: [{name: a, required: 'yes'}]\n", "setup[0].required"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_pack_yaml(source, name):
    text, place = PROBLEMS[name]
    write_pack(source, text)
    error = refused(source)
    assert [item["path"] for item in error.details["problems"]] == [place]
    assert error.details["file"].endswith("packs/web/pack.yaml")
    assert "Value error" not in error.message


def test_all_problems_are_named_at_once(source):
    write_pack(source, PACK.replace("1.0.0", "one") + "capabilities: [A]\nhealth: {path: x}\n")
    assert set(problems(source)) == {"version", "capabilities[0]", "health.path"}


BUNDLES = {
    "id": "bundle_id: Web\nversion: 1.0.0\n",
    "id too long": f"bundle_id: {'w' * 64}\nversion: 1.0.0\n",
    "no version": "bundle_id: web\n",
    "locale": "bundle_id: web\nversion: 1.0.0\nlocale: English!\n",
}


@pytest.mark.parametrize("name", BUNDLES)
def test_bundle_yaml(source, name):
    (source / "bundle.yaml").write_text(BUNDLES[name])
    assert len(problems(source)) == 1


YAMLS = {
    "key twice": ("bundle_id: web\nversion: 1.0.0\nbundle_id: other\n", 3, 1),
    "tab": ("bundle_id: web\n\tversion: 1.0.0\n", 2, 1),
    "unclosed": ("bundle_id: [web\n", 2, 1),
    "alias": ("bundle_id: &a web\nversion: *a\n", 2, 10),
    "aliases": ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 2, 8),
    "python": ("bundle_id: !!python/object/apply:os.system [id]\n", 1, 12),
    "two documents": ("bundle_id: a\n---\nbundle_id: b\n", 2, 1),
}


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_errors_say_where(source, name):
    text, line, column = YAMLS[name]
    (source / "bundle.yaml").write_text(text)
    error = refused(source)
    assert (error.details["line"], error.details["column"]) == (line, column)
    assert error.details["file"] == str(source / "bundle.yaml")


@pytest.mark.parametrize("data", [b"", b"- a\n", b"42", b"\xff\xfe", b"a: \x01", b"[" * 5000, b"#" * (1024 * 1024 + 1)])
def test_what_is_no_mapping_is_refused(source, data):
    (source / "bundle.yaml").write_bytes(data)
    assert refused(source).details["file"] == str(source / "bundle.yaml")


def test_yaml_is_of_version_1_2(source):
    """`no` is a word and 012 is twelve; a byte order mark is read over."""
    (source / "bundle.yaml").write_text("\ufeffbundle_id: web\nversion: 1.0.0\nlocale: no\n", encoding="utf-8")
    write_pack(source, PACK + "health: {timeout_seconds: 012}\n")
    found = read_source(source)
    assert found.bundle.locale == "no"
    assert found.packs[0].manifest.health.timeout_seconds == 12


def test_what_is_not_there(source, tmp_path):
    with pytest.raises(NotFound):
        read_source(tmp_path / "nowhere")
    (source / "packs/web/pack.yaml").unlink()
    with pytest.raises(NotFound, match=r"pack\.yaml"):
        read_source(source)
    (source / "bundle.yaml").unlink()
    with pytest.raises(NotFound, match=r"bundle\.yaml") as caught:
        read_source(source)
    assert "init" in caught.value.next_step


def add(source, path, data=b"", mode=0o644):
    target = source / "packs/web" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(mode)
    return target


def names(source) -> list[str]:
    return [file.path for file in read_source(source).packs[0].files]


def test_ignored_files(source):
    for path in (
        ".git/config",
        "__pycache__/main.pyc",
        "lib/x.pyc",
        ".DS_Store",
        "lib/.DS_Store",
        ".venv/bin/python",
        "node_modules/.cache/x",
        ".main.py.swp",
        "main.py~",
        "#main.py#",
    ):
        add(source, path)
    (source / "packs/web/.#main.py").symlink_to("somebody@host.123")
    add(source, "node_modules/x/index.js")
    add(source, ".gitignore")
    assert names(source) == [".gitignore", "main.py", "node_modules/x/index.js"]


def test_gtignore(source):
    for path in ("notes.md", "docs/notes.md", "docs/keep.txt", "build/x", "lib/build", "a.log", "lib/a.log"):
        add(source, path)
    (source / ".gtignore").write_text("# a comment\n\n*.log\nbuild/\n/packs/web/notes.md\ndocs/n*.md\n")
    assert names(source) == ["docs/keep.txt", "lib/build", "main.py"]
    (source / ".gtignore").write_text("!main.py\n")
    assert refused(source).details["line"] == 1


def test_files_that_may_not_be_part_of_a_bundle(source):
    for path in (".greentic/dev/store", "lib/.greentic/state/dev/x", ".dev.secrets.env", "lib/.dev.secrets.env"):
        secret = add(source, path)
        error = refused(source)
        assert error.details["path"] == f"packs/web/{path}"
        assert "secrets" in error.message
        secret.unlink()
    link = source / "packs/web/link"
    for target in ("main.py", "/etc/passwd", "missing"):
        link.symlink_to(target)
        error = refused(source)
        assert error.details["path"] == "packs/web/link"
        assert "symbolic link" in error.message
        link.unlink()
    link.symlink_to("/etc")
    assert "symbolic link" in refused(source).message
    link.unlink()
    os.mkfifo(link)
    assert "FIFO" in refused(source).message
    link.unlink()
    add(source, "pack.json")
    assert "pack.json" in refused(source).message


def test_socket(source):
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(source / "packs/web", os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{directory}/s")
        finally:
            os.close(directory)
        assert "socket" in refused(source).message


def test_names_that_could_not_be_unpacked(source):
    for name in (b"a\\b", b"a\nb", b"\xff"):
        path = source / "packs/web" / os.fsdecode(name)
        path.touch()
        assert refused(source)
        path.unlink()
    add(source, "README")
    add(source, "readme")
    assert refused(source).details["rule"] == "name-collision"


def test_a_file_that_is_too_large_to_be_unpacked(source):
    with (source / "packs/web/model.bin").open("wb") as file:
        file.truncate(3 * 1024**3)  # sparse: it takes no room
    error = refused(source)
    assert "packs/web/model.bin has 3221225472 bytes" in error.message
    assert ".gtignore" in error.next_step
    (source / "packs/web/model.bin").unlink()
    for number in range(5):
        with (source / f"packs/web/{number}.bin").open("wb") as file:
            file.truncate(1024**3)
    assert "more than 4294967296 bytes" in refused(source).message


def test_too_deep(source):
    add(source, "/".join("d" * 70) + "/x")
    assert "deep" in refused(source).message


def test_packs_folder(source, tmp_path):
    (source / "packs/README").write_text("x")
    assert refused(source).details["path"] == "packs/README"
    (source / "packs/README").unlink()
    (source / "packs/.DS_Store").write_text("x")
    assert names(source) == ["main.py"]
    (source / "packs/Web").mkdir()
    assert refused(source).details["path"] == "packs/Web"
    (source / "packs/Web").rmdir()
    (source / "packs/web").rename(source / "packs/site")
    assert "folder is called site" in refused(source).message
    (source / "packs/site").rename(tmp_path / "elsewhere")
    assert "empty" in refused(source).message
    (source / "packs/web").symlink_to(tmp_path / "elsewhere")
    assert refused(source).details["path"] == "packs/web"


def test_applications_that_could_not_start(source):
    write_pack(source, PACK.replace("main:app", "other:app"))
    assert "no module other" in refused(source).message
    add(source, "lib/other/__init__.py")
    write_pack(source, PACK.replace("main:app", "other:app") + "  vendor: lib\n")
    read_source(source)
    write_pack(source, PACK + "  vendor: missing\n")
    assert "missing" in refused(source).message
    write_pack(source, PACK.replace("main:app", "other.web:app") + "  dependencies: [other>=1]\n")
    read_source(source)
    write_pack(source, PACK.replace("asgi", "process").replace("app: main:app", 'command: ["./serve"]'))
    assert "no file serve" in refused(source).message
    add(source, "serve")
    error = refused(source)
    assert "not executable" in error.message
    assert error.next_step == "chmod +x serve"
    (source / "packs/web/serve").chmod(0o700)
    read_source(source)


@pytest.mark.parametrize(
    ("program", "inside"),
    [("./serve", "serve"), ("bin/serve", "bin/serve"), ("python3", None), ("/usr/bin/env", None), ("../x", "../x")],
)
def test_program(program, inside):
    assert ProcessApplication(command=(program,)).program == inside


def test_entry_of_several_packs(source, tmp_path):
    other = source / "packs/other"
    other.mkdir()
    (other / "pack.yaml").write_text(PACK.replace("web", "other"))
    (other / "main.py").write_text("app = None\n")
    assert refused(source).details["candidates"] == ["other", "web"]
    text = (source / "bundle.yaml").read_text()
    (source / "bundle.yaml").write_text(text + "entry: nobody\n")
    assert refused(source).details["candidates"] == ["other", "web"]
    (source / "bundle.yaml").write_text(text + "entry: web\n")
    built = build(source, tmp_path / "b")
    assert [pack.pack_id for pack in built.packs] == ["other", "web"]
    unpacked = unpack(tmp_path / "b", tmp_path / "out")
    assert unpacked.entry.pack_id == "web"
    assert [pack.pack_id for pack in unpacked.packs] == ["other", "web"]


def test_every_refusal_is_of_the_family(source):
    (source / "packs/web/pack.yaml").unlink()
    (source / "packs/web/pack.yaml").mkdir()
    with pytest.raises(GreenticError):
        read_source(source)


def test_endless_values_are_refused_early(source):
    (source / "bundle.yaml").write_text("".join(f"k{number}: v\n" for number in range(10_001)))
    assert "more than 20000" in refused(source).message


def test_a_reused_anchor_does_not_matter(source):
    (source / "bundle.yaml").write_text("bundle_id: &a web\nversion: &a 1.0.0\n")
    assert read_source(source).bundle.version == "1.0.0"
