"""Reading what authors write: `bundle.yaml` and `pack.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from greentic.bundles import documents
from greentic.bundles.refusals import shown
from greentic.spec.errors import InputOutput, InvalidArgument, NotFound

MOST_YAML_BYTES = 1024 * 1024

Model = TypeVar("Model", bound=pydantic.BaseModel)

_ROUTING = "where it is reached is said when it is deployed: gtc op deploy --host … --path-prefix …"
_ADDRESS = "the runtime chooses the address and tells the application its port in $PORT"
_PLACEMENT = "where and how often it runs is a setting of the environment and of its deployer"
_NAMING = "which environment it runs in is said when it is deployed"
_SECRETS = "ask for a secret with a setup question that has secret: true; its value goes to the secret store"

ENVIRONMENT_SETTINGS: Mapping[str, str] = {
    "environment": _NAMING,
    "environments": _NAMING,
    "env": "variables are settings of an environment: ask for them with a setup question",
    "env_id": _NAMING,
    "host": _ROUTING,
    "hosts": _ROUTING,
    "hostname": _ROUTING,
    "public_base_url": _ROUTING,
    "path_prefix": _ROUTING,
    "path_prefixes": _ROUTING,
    "route_binding": _ROUTING,
    "listen": _ADDRESS,
    "listen_addr": _ADDRESS,
    "bind": _ADDRESS,
    "port": _ADDRESS,
    "ports": _ADDRESS,
    "replicas": _PLACEMENT,
    "region": _PLACEMENT,
    "namespace": _PLACEMENT,
    "cluster": _PLACEMENT,
    "secrets": _SECRETS,
    "secret_values": _SECRETS,
    "secret_refs": _SECRETS,
}
"""Keys that a bundle may not have, with where such a thing is said instead. One bundle runs in many environments."""


def read(path: Path, model: type[Model]) -> Model:
    """The document of type `model` in the YAML file `path`.

    Raises NotFound when there is no such file, and InvalidArgument with `file` and either `line` and `column` (of the
    YAML) or `problems`, a list of every {"path", "problem"}.
    """
    document = _parse(path, _read_text(path))
    problems = list(_settings(document, ""))
    if not problems:
        try:
            return model.model_validate(document)
        except pydantic.ValidationError as error:
            problems = documents.problems(error, model)
    listed = "; ".join(f"{problem['path']}: {problem['problem']}" for problem in problems)
    raise InvalidArgument(f"{path.name} is not accepted: {listed}", details={"file": str(path), "problems": problems})


def _read_text(path: Path) -> str:
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InvalidArgument(f"{path} is not a plain file", details={"file": str(path)})
        with path.open("rb") as file:
            data = file.read(MOST_YAML_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no {path.name} in {path.parent}",
            details={"file": str(path)},
            next_step="make a new bundle with: gtc bundle init",
        ) from error
    except OSError as error:
        raise InputOutput(f"{path} cannot be read: {error.strerror}", details={"file": str(path)}) from error
    if len(data) > MOST_YAML_BYTES:
        raise InvalidArgument(
            f"{path.name} is larger than {MOST_YAML_BYTES} bytes",
            details={"file": str(path), "limit": MOST_YAML_BYTES},
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path.name} is not UTF-8", details={"file": str(path)}) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    from greentic.bundles import plain_yaml

    def refuse(problem: str, mark: Any = None) -> InvalidArgument:
        place = {} if mark is None else {"line": mark.line + 1, "column": mark.column + 1}
        where = "" if mark is None else f", line {place['line']}, column {place['column']}"
        return InvalidArgument(f"{path.name}{where}: {problem}", details={"file": str(path), **place})

    try:
        document = plain_yaml.load(text)
    except MarkedYAMLError as error:
        raise refuse(shown(error.problem or str(error)), error.problem_mark or error.context_mark) from error
    except (YAMLError, ValueError, OverflowError) as error:
        raise refuse(shown(f"it is not YAML: {error}")) from error
    if not isinstance(document, dict):
        raise refuse("it holds no mapping of keys to values")
    return document


def _settings(node: Any, path: str) -> Iterator[dict[str, str]]:
    """Every key that is a setting of an environment."""
    if isinstance(node, dict):
        for key, value in node.items():
            place = f"{path}.{key}" if path else str(key)
            # `default` holds an answer, not keys of ours.
            if key in ENVIRONMENT_SETTINGS:
                why = ENVIRONMENT_SETTINGS[key]
                yield {"path": place, "problem": f"a bundle carries no environment setting; {why}"}
            elif key != "default":
                yield from _settings(value, place)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _settings(value, f"{path}[{index}]")
