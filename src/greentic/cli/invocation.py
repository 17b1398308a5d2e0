"""What every verb shares: its options, how its answers file is read, how it runs, and how its outcome is told.

A verb is three small parts: arguments (words to typed values), action (an operation), view (human or JSON). This module
ties them: `verb` adds the common options and hands the action an `Invocation`; the action returns the result, and the
view prints it. Nothing else prints or exits.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from greentic.spec.errors import AnswersParse, GreenticError, InputOutput, InvalidArgument, exit_code

if TYPE_CHECKING:
    from greentic.operations.context import Context
    from greentic.store.contract import Store

MAX_ANSWERS_BYTES = 4 * 1024 * 1024
Result = Mapping[str, Any]
View = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Concluded:
    """A result that is told like any other but ends with a status of its own, such as findings of the doctor. None
    for what has been told already, piece by piece."""

    result: Result | None
    status: int


def store_root(given: Path | None) -> Path:
    """Where environments live: --store-root, $GREENTIC_STORE_ROOT, else ~/.greentic/environments."""
    if given is not None:
        return given
    variable = os.environ.get("GREENTIC_STORE_ROOT")
    if variable:
        return Path(variable)
    try:
        return Path.home() / ".greentic" / "environments"
    except RuntimeError:
        raise InvalidArgument(
            "there is no home folder to keep environments in", next_step="say where: --store-root FOLDER"
        ) from None


def local_store(root: Path | None) -> Store:
    """The environments of this machine."""
    from greentic.operations.heads import sealing
    from greentic.store.files import FilesStore
    from greentic.store.policies import PolicyAuthorizer

    folder = store_root(root)
    return FilesStore(folder, authorize=PolicyAuthorizer(folder), seal=sealing())


def remote_store(root: Path | None, url: str | None, token: str | None) -> Store | None:
    """The environments of the store server that is meant (--store-url, $GREENTIC_STORE_URL); None: this machine's."""
    if url is None and token is None and not os.environ.get("GREENTIC_STORE_URL"):
        return None
    try:
        from greentic.store.remote import RemoteStore, chosen
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            f"store servers are not known here: {error.name} is missing", next_step="pip install 'greentic[server]'"
        ) from None
    origin = chosen(url, token, os.environ)
    if origin is None:
        return None
    remote = RemoteStore(origin, store_root(root))
    command = click.get_current_context(silent=True)
    if command is not None:
        command.call_on_close(remote.close)
    return remote


def _nothing() -> None:
    """Nothing stands between a commit on a server and its answer."""


@dataclass(slots=True)
class Invocation:
    """One call of a verb: its common options, and the way to the operations."""

    noun: str
    verb: str
    json: bool = False
    quiet: bool = False
    environment: str | None = None
    root: Path | None = None
    dry_run: bool = False
    key: str | None = None
    expected_generation: int | None = None
    if_match: str | None = None
    by: str | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    store_url: str | None = None
    store_token: str | None = field(default=None, repr=False)

    @property
    def environment_id(self) -> str:
        """The environment that is meant: --env, the answers file, $GREENTIC_ENV, else local."""
        from greentic.spec.identifiers import environment_id

        return environment_id(self.environment or os.environ.get("GREENTIC_ENV") or "local")

    def progress(self, line: str) -> None:
        """One line of progress on standard error; silent for machines and on request."""
        if not self.json and not self.quiet:
            click.echo(click.style(f"· {line}", dim=True), err=True)

    def context(self) -> Context:
        """The surroundings of the operation."""
        from greentic.envpacks.registry import Registry
        from greentic.operations.context import Context
        from greentic.operations.heads import prepare

        user = actor()
        remote = remote_store(self.root, self.store_url, self.store_token)
        return Context(
            store=local_store(self.root) if remote is None else remote,
            registry=Registry.installed(),
            actor=user,
            by=self.by or user,
            now=now,
            mint=mint,
            progress=self.progress,
            key=self.key,
            expected_generation=self.expected_generation,
            if_match=self.if_match,
            dry_run=self.dry_run,
            before_change=prepare if remote is None else _nothing,
        )


def actor() -> str:
    """Who asks: the user this process runs as, by the system's word and not by the environment's."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid-{os.geteuid()}"


def now() -> str:
    """The present as RFC 3339 in UTC, to the microsecond."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def mint() -> str:
    """A fresh ULID."""
    from ulid import ULID

    return str(ULID())


def verb(
    noun: str,
    name: str,
    *,
    view: View,
    answers: Mapping[str, str] | None = None,
    types: Mapping[str, Mapping[str, Any]] | None = None,
    changes: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Make `action(invocation, **arguments)` the callback of a command.

    `answers` maps keys of an answers file to arguments; words on the command line win over it. `types` are JSON Schemas
    of those keys of which neither the options nor the verb's payload tell the truth. `changes` adds the options of
    verbs that change something. The action may be a coroutine function.
    """

    def decorate(action: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(action)
        def callback(
            *,
            as_json: bool,
            quiet: bool,
            environment: str | None,
            root: Path | None,
            store_url: str | None = None,
            store_token: str | None = None,
            answers_file: str | None,
            show_schema: bool,
            **arguments: Any,
        ) -> None:
            invocation = Invocation(
                noun,
                name,
                json=as_json,
                quiet=quiet,
                environment=environment,
                root=root,
                dry_run=arguments.pop("dry_run", False),
                key=arguments.pop("idempotency_key", None),
                expected_generation=arguments.pop("expect_generation", None),
                if_match=arguments.pop("if_match", None),
                by=arguments.pop("updated_by", None),
                store_url=store_url,
                store_token=store_token,
            )
            with telling(invocation):
                if show_schema:
                    _told(
                        invocation,
                        _schema(noun, name, answers or {}, types or {}),
                        lambda result: click.echo(json.dumps(result, indent=2)),
                    )
                    return
                if answers_file is not None:
                    _fill(invocation, arguments, read_answers(answers_file), answers or {})
                if invocation.key is not None and not invocation.key.strip():
                    raise InvalidArgument("an idempotency key must not be blank")
                outcome = action(invocation, **arguments)
                if isinstance(outcome, Awaitable):
                    outcome = _run(outcome)
                concluded = outcome if isinstance(outcome, Concluded) else Concluded(outcome, 0)
                if concluded.result is not None:
                    _told(invocation, concluded.result, view)
                if concluded.status:
                    raise click.exceptions.Exit(concluded.status)

        decorated: Callable[..., None] = callback
        for option in reversed(_options(changes)):
            decorated = option(decorated)
        return decorated

    return decorate


def _options(changes: bool) -> list[Callable[[Callable[..., None]], Callable[..., None]]]:
    options: list[Callable[[Callable[..., None]], Callable[..., None]]] = [
        click.option(
            "--env", "-e", "environment", metavar="NAME", help="The environment. [default: $GREENTIC_ENV or local]"
        ),
        click.option(
            "--store-root",
            "root",
            metavar="FOLDER",
            type=click.Path(path_type=Path, file_okay=False),
            help="Where environments live. [default: ~/.greentic/environments]",
        ),
        click.option(
            "--store-url",
            metavar="URL",
            help="The store server where environments live. [default: $GREENTIC_STORE_URL]",
        ),
        click.option("--store-token", metavar="TOKEN", help="Its token. [default: $GREENTIC_STORE_TOKEN]"),
        click.option(
            "--answers", "answers_file", metavar="FILE", help="Take arguments from YAML or JSON; '-' is standard input."
        ),
        click.option("--schema", "show_schema", is_flag=True, help="Print the JSON Schema of what this verb takes."),
        click.option("--json", "as_json", is_flag=True, help="Print one line of JSON."),
        click.option("--quiet", "-q", is_flag=True, help="No progress lines."),
    ]
    if changes:
        options += [
            click.option("--dry-run", is_flag=True, help="Say what would change; change nothing."),
            click.option("--idempotency-key", metavar="KEY", help="The same key and request have one effect."),
            click.option(
                "--expect-generation",
                type=click.IntRange(min=0),
                metavar="N",
                help="Refuse unless the environment is at N.",
            ),
            click.option("--if-match", metavar="ETAG", help="Refuse unless the environment has this etag."),
            click.option("--updated-by", metavar="WHO", help="Recorded as who did it. [default: your user name]"),
        ]
    return options


class telling:
    """Turns errors into words or JSON on standard error, and the exit status."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GreenticError):
            tell_error(self._invocation, error)
            raise click.exceptions.Exit(exit_code(error)) from None
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            failure = InputOutput(f"{error.strerror or error}: {error.filename or 'a file or socket'}")
            tell_error(self._invocation, failure)
            raise click.exceptions.Exit(exit_code(failure)) from None
        if isinstance(error, Exception) and not isinstance(
            error, (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError)
        ):
            self._defect(error)

    def _defect(self, error: Exception) -> None:
        """An error that nobody foresaw: said as such, with the trace on request."""
        if os.environ.get("GREENTIC_DEBUG"):
            return
        failure = GreenticError(
            f"a defect in gtc: {type(error).__name__}: {error}",
            next_step="run it again with GREENTIC_DEBUG=1 for the trace, and report it",
        )
        tell_error(self._invocation, failure)
        raise click.exceptions.Exit(exit_code(failure)) from None


def tell_error(invocation: Invocation, error: GreenticError) -> None:
    """The error envelope for machines; what, why and the next step for people."""
    if invocation.json:
        document = {"op": invocation.verb, "noun": invocation.noun, "error": error.document()}
        click.echo(json.dumps(document, ensure_ascii=False), err=True)
        return
    click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True)
    if error.next_step is not None:
        click.echo(click.style("  next: ", fg="cyan") + error.next_step, err=True)


def _told(invocation: Invocation, outcome: Any, view: View) -> None:
    if invocation.json:
        document = {"op": invocation.verb, "noun": invocation.noun, "result": outcome}
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    if invocation.dry_run:
        click.echo(click.style("dry run, nothing changed: ", bold=True), nl=False)
    view(outcome)


def _run(outcome: Awaitable[Any]) -> Any:
    assert isinstance(outcome, Coroutine)
    try:
        import asyncio

        return asyncio.run(outcome)
    finally:
        outcome.close()  # when Ctrl-C came before it began


def _schema(noun: str, name: str, known: Mapping[str, str], types: Mapping[str, Any]) -> Result:
    """What an answers file of this verb may hold: the fields of the verb's payload that people give, names for ids."""
    from greentic.spec.errors import NotFound
    from greentic.spec.schemas import DIALECT, request_schema

    try:
        payload = request_schema(noun, name)
    except NotFound:
        payload = {}
    typed = payload.get("properties", {})
    text = {"type": "string"}
    told = {param.name: param for param in click.get_current_context().command.params}
    properties = {
        key: types.get(key) or (text if key.endswith("_id") else _said(told.get(argument)) or typed.get(key, {}))
        for key, argument in known.items()
    }
    common = {"environment_id": text, "idempotency_key": text, "updated_by": text}
    schema = {
        "$schema": DIALECT,
        "$id": f"urn:greentic:schema:greentic.answers.{noun}.{name}.v1",
        "type": "object",
        "additionalProperties": False,
        "properties": {**common, **properties},
    }
    return {**schema, "$defs": payload["$defs"]} if "$defs" in payload else schema


def _said(parameter: click.Parameter | None) -> dict[str, Any] | None:
    """The JSON Schema of what people write for `parameter`; None for one that they do not see."""
    if parameter is None or getattr(parameter, "hidden", False):
        return None
    kind = parameter.type
    schema: dict[str, Any] = {"type": "string"}
    if isinstance(kind, click.Choice):
        schema = {"enum": [str(choice) for choice in kind.choices]}
    elif isinstance(kind, click.types.IntParamType):
        schema = {"type": "integer"}
        if isinstance(kind, click.IntRange) and kind.min is not None:
            schema["minimum"] = kind.min
    elif isinstance(kind, click.types.BoolParamType) or getattr(parameter, "is_flag", False):
        schema = {"type": "boolean"}
    many = parameter.nargs == -1 or getattr(parameter, "multiple", False)
    return {"type": "array", "items": schema} if many else schema


def read_answers(place: str) -> dict[str, Any]:
    """The mapping in a YAML or JSON file, or on standard input for `-`; AnswersParse with the place otherwise."""
    try:
        if place == "-":
            text = sys.stdin.buffer.read(MAX_ANSWERS_BYTES + 1)
        else:
            with Path(place).open("rb") as file:
                text = file.read(MAX_ANSWERS_BYTES + 1)
    except OSError as error:
        raise AnswersParse(f"the answers file {place} cannot be read: {error.strerror}") from None
    if len(text) > MAX_ANSWERS_BYTES:
        raise AnswersParse(f"the answers file {place} is larger than {MAX_ANSWERS_BYTES} bytes")
    parsed = _parse_answers(text, place)
    if not isinstance(parsed, dict) or not all(isinstance(key, str) for key in parsed):
        raise AnswersParse(f"the answers file {place} must hold a mapping of names to values")
    return parsed


def _parse_answers(text: bytes, place: str) -> Any:
    from greentic.spec.errors import SpecViolation
    from greentic.spec.parsing import parse_json

    if place.endswith(".json"):
        try:
            return parse_json(text, place)
        except SpecViolation as error:
            raise AnswersParse(error.message) from None
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text.decode())
    except (YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise AnswersParse(f"the answers file {place} is neither YAML nor JSON: {error}") from None


def _fill(invocation: Invocation, arguments: dict[str, Any], given: dict[str, Any], known: Mapping[str, str]) -> None:
    """Put the answers where the command line said nothing."""
    invocation.answers = given
    for key, value in given.items():
        if key == "environment_id":
            invocation.environment = invocation.environment or str(value)
        if key == "environment_id" and "environment_id" not in known:
            continue
        if key == "idempotency_key":
            invocation.key = invocation.key or str(value)
        elif key == "updated_by":
            invocation.by = invocation.by or str(value)
        elif key in known:
            name = known[key]
            if arguments.get(name) in (None, (), False):
                arguments[name] = value
        else:
            names = ", ".join(sorted({"environment_id", "idempotency_key", "updated_by", *known}))
            raise AnswersParse(f"the answers hold an unknown key '{key}'; known are {names}")


def need(value: Any, what: str) -> Any:
    """`value` when it was given; a usage error naming `what` otherwise."""
    if value is None or value == () or value == "":
        context = click.get_current_context()
        raise click.UsageError(f"Missing {what}.", context)
    return value
