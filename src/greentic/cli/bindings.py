"""What `gtc op env-packs` and `gtc op extensions` share: arguments, the action of add and update, views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from greentic.cli.invocation import Invocation

BOUND = {"kind": "kind", "pack_ref": "pack_ref", "answers_ref": "answers_ref", "config": "config", "note": "note"}
"""The keys of an answers file that make a binding."""
CONFIG = {"config": {"type": "object"}}
KIND = {"kind": {"type": "string"}}


def complete_slot(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The slots that begin with what is typed."""
    from greentic.spec.capabilities import Slot

    return [slot.value for slot in Slot if slot.single and slot.value.startswith(incomplete)]


def complete_kind(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The installed env-packs that begin with what is typed."""
    from greentic.envpacks.registry import Registry

    return [path for path in Registry.installed().paths() if path.startswith(incomplete)]


def slot_argument(command: Any) -> Any:
    """The argument SLOT."""
    return click.argument("slot", metavar="SLOT", required=False, shell_complete=complete_slot)(command)


def kind_argument(command: Any) -> Any:
    """The argument KIND."""
    return click.argument("kind", metavar="KIND", required=False, shell_complete=complete_kind)(command)


def instance_option(command: Any) -> Any:
    """The option --instance."""
    return click.option("--instance", "instance_id", metavar="NAME", help="Which of several of this kind.")(command)


def note_option(command: Any) -> Any:
    """The option --note."""
    return click.option("--note", metavar="TEXT", help="Why; kept in the history.")(command)


def unknown_option(command: Any) -> Any:
    """The option --allow-unknown."""
    return click.option(
        "--allow-unknown", is_flag=True, help="Bind it although no installed distribution provides it."
    )(command)


def force_option(command: Any) -> Any:
    """The option --force."""
    return click.option(
        "--force", is_flag=True, help="Take the deployer away although the record says that workers run on it."
    )(command)


def binding_options(command: Any) -> Any:
    """The options that make a binding."""
    for option in (
        unknown_option,
        note_option,
        click.option("--answers-ref", metavar="PATH", help="Answers that lie in the environment's folder already."),
        click.option(
            "--config",
            metavar="FILE",
            help="Answers for the env-pack, YAML or JSON; kept in the environment's folder.",
        ),
        click.option("--pack-ref", metavar="REF", help="Where the pack comes from. [default: the kind]"),
    ):
        command = option(command)
    return command


def to_option(command: Any) -> Any:
    """The option --to."""
    return click.option(
        "--to",
        "to_generation",
        type=click.IntRange(min=0),
        metavar="GENERATION",
        help="Which binding. [default: the one before]",
    )(command)


def change(
    invocation: Invocation,
    verb: str,
    *,
    config: Any,
    allow_unknown: bool,
    force: bool = False,
    **fields: Any,
) -> Any:
    """Add or update the binding that `fields` describe; `config` is a mapping or the file that holds one."""
    from greentic.cli.invocation import read_answers
    from greentic.operations import bindings
    from greentic.spec.errors import InvalidArgument

    answers = read_answers(str(config)) if isinstance(config, str | Path) else config
    if answers is not None and not isinstance(answers, dict):
        raise InvalidArgument("config is a mapping of names to values, or a file that holds one")
    if answers is not None and fields.get("answers_ref") is not None:
        raise InvalidArgument("--config and --answers-ref name two answers", next_step="give one of them")
    context = invocation.context()
    told = bindings.change(
        context,
        invocation.environment_id,
        invocation.noun,
        verb,
        fields,
        config=answers,
        allow_unknown=allow_unknown,
        force=force,
    )
    return bindings.followed(context, invocation.environment_id, told)


def slot_of(word: str) -> Any:
    """The slot of that name; InvalidArgument otherwise."""
    from greentic.spec.capabilities import Slot
    from greentic.spec.errors import InvalidArgument

    try:
        return Slot(word)
    except ValueError:
        raise InvalidArgument(f"'{word}' is no capability slot; there are {', '.join(Slot)}") from None


def view_available(result: Any) -> None:
    """The table of what is installed."""
    from greentic.cli.tables import line, table

    if not result["env_packs"]:
        line("none is installed")
        return
    table(
        ("SLOT", "ENV-PACK", "VERSIONS", "FROM", ""),
        [
            (
                row["slot"] or "?",
                row["path"],
                row["versions"] or "?",
                _from(row["origin"]),
                row["summary"] if row["loads"] else "CANNOT BE USED: " + row["problem"],
            )
            for row in result["env_packs"]
        ],
    )


def _from(origin: Any) -> str:
    if origin is None:
        return ""
    unsigned = ", UNSIGNED" if origin["signed_by"] == () else ""
    what = "executable " if origin["kind"] == "executable" else f"{origin['name']} "
    return f"{what}{origin['version']}{unsigned}"


def view_described(result: Any) -> None:
    """One env-pack in a few lines."""
    from greentic.cli.tables import line

    line((result["path"], "bold"), f"  fills {result['slot']}, serves {result['versions']}")
    if result["summary"]:
        line(result["summary"])
    origin = result["origin"]
    if origin is not None:
        line(f"from {_from(origin)}, {origin['place']}")
        if origin["signed_by"]:
            line(f"signed by {', '.join(origin['signed_by'])}")
    for name, schema in ((result["answers"] or {}).get("properties") or {}).items():
        required = "required" if name in result["answers"].get("required", ()) else "may be left out"
        kind = schema.get("type") or ("one of " + ", ".join(map(str, schema["enum"])) if "enum" in schema else "")
        default = f", {schema['default']} by default" if "default" in schema else ""
        line(f"answer {name} ({kind}, {required}{default}): {schema.get('description', '')}".rstrip(": "))
    for capability in result["capabilities"]:
        line(f"needs {capability['id']}: {capability['description']}")


def view_bound(result: Any, done: str) -> None:
    """One line of what was bound or removed."""
    from greentic.cli.tables import line

    binding = result["binding"]
    where = binding.get("slot") or binding.get("instance_id") or ""
    back = f", as in generation {result['restored_generation']}" if "restored_generation" in result else ""
    line(
        (f"{where}: " if where else "") + binding["kind"],
        f" {done}{back} (generation {result['binding_generation']}, environment generation {result['generation']})",
    )


def view_list(result: Any) -> None:
    """The table of what is bound."""
    from greentic.cli.tables import age, line, table

    if not result["bindings"]:
        line(f"nothing is bound in {result['environment_id']}; see: gtc op env-packs available")
        return
    table(
        ("BINDING", "KIND", "GENERATION", "AGE", "BY", "NOTE"),
        [
            (
                row["name"],
                row["kind"],
                row["generation"],
                age(row.get("updated_at")),
                row.get("updated_by"),
                row.get("note"),
            )
            for row in result["bindings"]
        ],
    )


def view_history(result: Any) -> None:
    """The table of generations."""
    from greentic.cli.tables import age, line, table

    if not result["bindings"]:
        line(f"{result['name']} was never bound")
        return
    table(
        ("GENERATION", "", "KIND", "ANSWERS", "AGE", "BY", "NOTE"),
        [
            (
                row["generation"],
                "bound" if row["bound"] else "removed" if "removed_at" in row else "",
                row["kind"],
                row["answers_ref"],
                age(row.get("updated_at")),
                row.get("updated_by"),
                row.get("removed_note") or row.get("note"),
            )
            for row in result["bindings"]
        ],
    )
