"""The error family of the platform.

    GreenticError
    ├── InvalidArgument       the caller's words are wrong                        invalid-argument
    │   └── AnswersParse      an answers file cannot be read                      answers-parse
    ├── SpecViolation         a document breaks a rule of its kind                spec
    ├── NotFound              what was named does not exist                       not-found
    ├── Conflict              the state does not allow it                         conflict
    │   ├── AlreadyExists     what is to be made is there                         conflict
    │   └── Differs           a check found a difference                          differs
    ├── Denied                the actor may not                                   unauthorized
    ├── GateFailed            a health gate said no                               gate-failed
    ├── TimedOut              a bound in time was passed                          timeout
    ├── StoreError            the place where environments live failed            store
    │   └── CorruptDocument   a stored document cannot be trusted                 corrupt
    ├── BundleError           an archive is malformed or hostile                  bundle
    ├── ProviderError         an env-pack or what it drives failed                provider
    ├── InputOutput           a file or a socket failed                           io
    └── NotImplementedYet     a documented verb that this version lacks           not-yet-implemented

Every error says what happened and why (`message`), gives a machine what it needs (`details`, JSON values), and names
the next step (`next_step`, a command or an action; None when there is none). The wire kinds are those of the reference
(reference 01, sections 1.18 and 3.2); `gate-failed`, `timeout`, `differs`, `corrupt`, `bundle` and `provider` are ours.
The kinds are mapped to exit codes here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class GreenticError(Exception):
    """A refusal or failure with a kind, a message for a person, details for a machine and a next step."""

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.next_step = next_step

    def document(self) -> dict[str, Any]:
        """The error as JSON: `kind` and `message` always, `details` and `next_step` when there are any."""
        document: dict[str, Any] = {"kind": self.kind, "message": self.message}
        if self.details:
            document["details"] = self.details
        if self.next_step is not None:
            document["next_step"] = self.next_step
        return document


class InvalidArgument(GreenticError):
    """The caller's words are wrong."""

    kind = "invalid-argument"


class AnswersParse(InvalidArgument):
    """An answers file or payload cannot be read."""

    kind = "answers-parse"


class SpecViolation(GreenticError):
    """A document breaks a rule of its kind; `rule` names the rule, as in reference 01 section 1.6."""

    kind = "spec"

    def __init__(
        self,
        rule: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message, details={"rule": rule, **(details or {})}, next_step=next_step)
        self.rule = rule


class NotFound(GreenticError):
    """What was named does not exist."""

    kind = "not-found"


class Conflict(GreenticError):
    """The present state does not allow the change."""

    kind = "conflict"


class AlreadyExists(Conflict):
    """What is to be made is there already; a Conflict like any other, except for who speaks A8."""


class Differs(Conflict):
    """A check found a difference between what is asked for and what is."""

    kind = "differs"


class Denied(GreenticError):
    """The actor may not do this."""

    kind = "unauthorized"


class GateFailed(GreenticError):
    """A health gate said no; the revision is recorded as failed."""

    kind = "gate-failed"


class TimedOut(GreenticError):
    """A bound in time was passed."""

    kind = "timeout"


class StoreError(GreenticError):
    """The place where environments live failed."""

    kind = "store"


class CorruptDocument(StoreError):
    """A stored document cannot be trusted: unreadable, or its digest does not match."""

    kind = "corrupt"


class BundleError(GreenticError):
    """An archive is malformed or hostile."""

    kind = "bundle"


class ProviderError(GreenticError):
    """An env-pack, or what it drives, failed."""

    kind = "provider"


class InputOutput(GreenticError):
    """A file or a socket failed."""

    kind = "io"


class NotImplementedYet(GreenticError):
    """A documented verb that this version lacks."""

    kind = "not-yet-implemented"


EXIT_CODES: Mapping[str, int] = {
    "invalid-argument": 2,
    "answers-parse": 2,
    "spec": 2,
    "differs": 3,
    "conflict": 4,
    "not-found": 5,
    "unauthorized": 6,
    "gate-failed": 7,
    "timeout": 8,
}
"""Exit status by kind; every kind that is not listed exits with 1."""


def exit_code(error: GreenticError) -> int:
    """The exit status of the command line for `error`."""
    return EXIT_CODES.get(error.kind, 1)
