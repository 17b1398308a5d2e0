"""YAML without what only costs: aliases, endless nesting, endless values.

This module imports the library and is itself imported where a file is read.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent

_MOST_DEPTH = 32
_MOST_NODES = 20_000
"""Keys and values of one document. Reading YAML takes about a second for so many."""


class _BoundedComposer(Composer):
    """Refuses before anything is built: a few aliases can describe a billion items."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.warn_double_anchors = False
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        self._nodes += 1
        if self.parser.check_event(AliasEvent):
            self._refuse("aliases (*name) are not read here; write the value out")
        if self._depth > _MOST_DEPTH:
            self._refuse("it is nested too deeply")
        if self._nodes > _MOST_NODES:
            self._refuse(f"it holds more than {_MOST_NODES} keys and values")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refuse(self, problem: str) -> None:
        raise MarkedYAMLError(problem=problem, problem_mark=self.parser.peek_event().start_mark)


def load(text: str) -> Any:
    """The one document in `text`, by YAML 1.2, where `no` is a word and `012` is twelve; a key may appear once.

    Raises YAMLError, mostly MarkedYAMLError with a place, and ValueError for a value that is none.
    """
    # Only the pure parser reads 1.2.
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _BoundedComposer
    return yaml.load(text)
