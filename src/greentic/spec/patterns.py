"""Texts of a fixed form, checked without a call of Python.

A large environment holds some hundred thousand of them. pydantic's own engine takes a third of the time that a function
takes; in return its patterns know no looking ahead, so that a form with an exception is two patterns, each with its own
words for what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Matches:
    """In an `Annotated` text: some part of it matches `pattern` (anchor it to mean the whole), or `why` is the problem.

    The pattern is one of Rust's `regex`. Where Python uses it too it must mean the same to both: `[0-9]`, never `\\d`,
    which Python takes for the digits of every script.
    """

    pattern: str
    why: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        judged = core_schema.custom_error_schema(
            core_schema.str_schema(pattern=self.pattern), "form", custom_error_message=self.why
        )
        return core_schema.chain_schema([handler(source), judged])


def whole(pattern: str) -> str:
    """`pattern` for a whole text."""
    return f"^(?:{pattern})$"
