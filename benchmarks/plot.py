"""Bars as SVG, in a few lines: a picture of a run that a browser and a page of Markdown show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDTH, _LABELS, _ROW, _HEAD = 720, 190, 24, 40


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars from the left, each with its label and its value as `form` writes it; `mark` is a value to compare with."""

    title: str
    bars: Sequence[tuple[str, float]]
    form: str
    mark: float | None = None


def write(path: Path, charts: Sequence[Chart]) -> None:
    """`charts` below each other, in the file at `path`."""
    parts: list[str] = []
    y = 0
    for chart in charts:
        parts.append(f'<text x="8" y="{y + 24}" font-weight="bold">{escape(chart.title)}</text>')
        y += _HEAD
        known = [value for _, value in chart.bars if value == value]
        scale = (_WIDTH - _LABELS - 80) / max([*known, chart.mark or 0.0, 1e-9])
        top = y
        for label, value in chart.bars:
            shown = chart.form.format(value) if value == value else "not measured"
            length = value * scale if value == value else 0
            parts += [
                f'<text x="{_LABELS - 8}" y="{y + 16}" text-anchor="end">{escape(label)}</text>',
                f'<rect x="{_LABELS}" y="{y + 3}" width="{length:.1f}" height="{_ROW - 7}" fill="#3a7d44"/>',
                f'<text x="{_LABELS + length + 6:.1f}" y="{y + 16}">{escape(shown)}</text>',
            ]
            y += _ROW
        if chart.mark is not None:
            x = _LABELS + chart.mark * scale
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{y}" stroke="#888" stroke-dasharray="4 3"/>')
        y += 16
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" font-family="sans-serif" '
        f'font-size="13"><rect width="{_WIDTH}" height="{y}" fill="white"/>{"".join(parts)}</svg>\n'
    )
