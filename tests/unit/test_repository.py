"""What a stranger relies on in the repository itself: rooms, targets, documents, locks, examples."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from greentic.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src" / "greentic"
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if path.name != "LICENSE")
ROOMS = sorted(path.parent.name for path in SOURCES.glob("*/__init__.py"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def console_lines(page: Path) -> list[str]:
    """What a page asks the reader to type."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def typed() -> list[tuple[str, str]]:
    """(page, command) of every `gtc` command on every page."""
    return [
        (named(page), line)
        for page in PAGES
        for line in console_lines(page)
        if line.startswith(("gtc ", "eval $(gtc "))
    ]


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)[1:]


def resolve(words: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """The command that the words name, and the words that are left for it."""
    command: click.Command = cli
    context = click.Context(cli, info_name="gtc")
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command '{words[0]}'"
        context = click.Context(found, info_name=words[0], parent=context)
        command, words = found, words[1:]
    return command, context, words


class TestRooms:
    def test_every_room_is_typed_and_documented(self) -> None:
        assert (SOURCES / "py.typed").is_file()
        for room in ROOMS:
            tree = ast.parse((SOURCES / room / "__init__.py").read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), f"{room} does not say what it is for"

    def test_the_architecture_page_lists_every_room(self) -> None:
        page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
        for room in ROOMS:
            assert f"| `{room}` |" in page, f"docs/architecture.md does not list {room}"

    @pytest.mark.parametrize("room", ROOMS)
    def test_each_room_imports_alone(self, room: str) -> None:
        modules = [
            ".".join(["greentic", room, *path.relative_to(SOURCES / room).with_suffix("").parts])
            for path in sorted((SOURCES / room).rglob("*.py"))
            if path.stem not in ("__main__", "guard") and "skeletons" not in path.parts
        ]
        modules = [module.removesuffix(".__init__") for module in modules]
        script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, *modules], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


class TestTargets:
    def test_every_make_command_in_the_documents_is_a_target(self) -> None:
        asked = {
            (named(page), target)
            for page in PAGES
            for target in re.findall(
                r"(?:^\$ |`)make (?:[A-Z]+=\S+ )*([a-z][a-z-]*)", page.read_text(), flags=re.MULTILINE
            )
        }
        assert asked
        assert {(page, target) for page, target in asked if target not in TARGETS} == set()

    def test_targets_without_a_file_are_phony(self) -> None:
        phony = set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[0].split())
        assert phony == TARGETS

    def test_ci_is_executable_and_sound(self) -> None:
        script = ROOT / ".ci" / "run"
        assert os.access(script, os.X_OK)
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
        for target in re.findall(r"\bmake ([a-z-]+)", script.read_text()):
            assert target in TARGETS

    @pytest.mark.parametrize("script", ["find-python", "check-venv"])
    def test_scripts_are_portable_shell(self, script: str) -> None:
        assert subprocess.run(["sh", "-n", str(ROOT / "scripts" / script)], check=False).returncode == 0


class TestDocuments:
    def test_there_are_commands_to_check(self) -> None:
        assert len(typed()) > 20

    @pytest.mark.parametrize(("page", "line"), typed())
    def test_every_gtc_command_is_understood(self, page: str, line: str) -> None:
        command, context, words = resolve(words_of(line))
        parser = command.make_parser(context)
        given, left, _ = parser.parse_args(list(words))
        assert not left, f"{page}: {line}: {left} is not understood"
        takes = {parameter.name for parameter in command.params}
        assert set(given) <= takes

    @pytest.mark.parametrize("page", PAGES, ids=named)
    def test_every_link_leads_somewhere(self, page: Path) -> None:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{named(page)}: {target}"

    def test_the_page_of_verbs_is_what_the_commands_say(self) -> None:
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "verbs.py"), "--check"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def test_every_decision_is_listed(self) -> None:
        folder = ROOT / "docs" / "decisions"
        listed = (folder / "README.md").read_text(encoding="utf-8")
        for page in folder.glob("0*.md"):
            assert f"({page.name})" in listed


class TestLocks:
    @pytest.mark.parametrize("lock", LOCKS, ids=named)
    def test_every_requirement_is_exact_and_hashed_and_names_no_place(self, lock: Path) -> None:
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"^\s*-(?!-hash)", text, flags=re.MULTILINE), "an option in a lock"
        for requirement in re.split(r"\n(?=\S)", text.strip()):
            assert re.match(r"^[A-Za-z0-9._-]+==[^\s]+", requirement), requirement.splitlines()[0]
            assert "--hash=sha256:" in requirement, requirement.splitlines()[0]

    def test_the_development_lock_holds_the_runtime_lock(self) -> None:
        runtime, development = (
            set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / name).read_text(), flags=re.MULTILINE))
            for name in ("runtime.lock", "dev.lock")
        )
        assert runtime <= development


class TestExamples:
    def test_the_two_versions_differ_only_in_what_they_say(self) -> None:
        one, two = (ROOT / "examples" / "helpdesk" / version for version in ("v1", "v2"))
        for name in ("main.py", "page.html"):
            first, second = (version / "packs" / "helpdesk" / name for version in (one, two))
            assert first.read_bytes() == second.read_bytes()
        assert (one / "packs/helpdesk/answers.py").read_bytes() != (two / "packs/helpdesk/answers.py").read_bytes()

    @pytest.mark.parametrize("example", ["helpdesk/v1", "helpdesk/v2", "hello-process"])
    def test_every_example_builds_the_same_twice(self, example: str, tmp_path: Path) -> None:
        from greentic.bundles.build import build

        source = ROOT / "examples" / example
        first, second = (build(source, tmp_path / f"{number}.gtbundle") for number in (1, 2))
        assert first.digest == second.digest
