"""Shares as people write them: `1%`, `0.25%`, `50bps`, `10` (percent, as in the reference)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from greentic.spec.errors import InvalidArgument
from greentic.spec.identifiers import BASIS_POINTS

_SHARE = re.compile(r"(\d{1,5})(?:\.(\d{1,6}))?\s*(%|bps)?", re.ASCII)


def parse_share(text: str) -> int:
    """Basis points of `1%`, `0.25%`, `50bps` or `10` (percent); InvalidArgument for anything else.

    A share finer than one basis point, negative or above 100 % is refused rather than rounded.
    """
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(
            f"'{text}' is not a share: write a percentage such as 5% or 0.25%, or basis points such as 25bps"
        )
    value = Fraction(f"{match[1]}.{match[2] or 0}")
    exact = value if match[3] == "bps" else value * 100
    if exact.denominator != 1:
        raise InvalidArgument(f"'{text}' is finer than one basis point (0.01%)")
    if exact > BASIS_POINTS:
        raise InvalidArgument(f"'{text}' is more than everything (100%)")
    return int(exact)


def format_share(basis_points: int) -> str:
    """Basis points as a percentage without needless digits: `1%`, `0.25%`, `100%`."""
    whole, rest = divmod(basis_points, 100)
    return f"{whole}%" if not rest else f"{whole}.{rest:02d}".rstrip("0") + "%"


def scale(weights: Mapping[str, int], total: int) -> dict[str, int]:
    """`weights` scaled to sum to exactly `total` basis points, by largest remainder, ties in the order given."""
    whole = sum(weights.values())
    exact = {name: Fraction(weight * total, whole) for name, weight in weights.items()}
    scaled = {name: int(share) for name, share in exact.items()}
    missing = total - sum(scaled.values())
    by_remainder: Sequence[str] = sorted(exact, key=lambda name: scaled[name] - exact[name])
    for name in by_remainder[:missing]:
        scaled[name] += 1
    return scaled
