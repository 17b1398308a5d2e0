"""Which of the operator's environment variables go on to what we start: deny by default."""

from __future__ import annotations

from collections.abc import Mapping

_PASSED = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TMPDIR", "TZ"})
_PASSED_PREFIXES = ("LC_", "SSL_CERT_")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def passed(operator: Mapping[str, str]) -> dict[str, str]:
    """The few variables of the `operator`'s environment that any program may see."""
    kept = {name: value for name, value in operator.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    kept.setdefault("PATH", _DEFAULT_PATH)
    return kept
