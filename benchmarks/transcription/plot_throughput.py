"""Plot a report of benchmarks.transcription.throughput: throughput and latency percentiles against clients.

python -m benchmarks.transcription.plot_throughput result.json result.svg
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.report import argument_parser

WIDTH, HEIGHT = 860, 340
LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT, GAP = 50, 52, 340, 210, 70
COLOURS = ("#1f6f8b", "#c8553d", "#6a994e", "#8a6fb0", "#b08900", "#6b7280")
STYLE = """text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-weight: 600 }
.grid { stroke: #ddd } .axis { stroke: #888 } .end { text-anchor: end } .middle { text-anchor: middle }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #444 } }"""


@dataclass(frozen=True)
class Panel:
    """A coordinate system with equally spaced numbers of clients on the x axis and values from zero on the y axis."""

    left: float
    clients: Sequence[int]
    largest: float

    def x(self, clients: int, shift: float = 0.0) -> float:
        step = PANEL_WIDTH / len(self.clients)
        return self.left + step * (self.clients.index(clients) + 0.5) + shift

    def y(self, value: float) -> float:
        return TOP + PANEL_HEIGHT * (1 - value / self.largest)


def draw(report: dict[str, Any]) -> str:
    rows = [row for row in report["medians"] if row["throughput"]]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(row["system"] for row in rows))}
    clients = sorted({row["clients"] for row in rows})
    speed = Panel(LEFT, clients, _round_up(max(row["throughput_range"][1] for row in rows)))
    latency = Panel(LEFT + PANEL_WIDTH + GAP, clients, _round_up(max(row["p99"] for row in rows)))
    parts = [
        *frame(speed, f"Seconds of audio per second, {report['model']}"),
        *throughput(speed, rows, colours),
        *frame(latency, "Latency in seconds: dot p50, tick p95, end p99"),
        *latencies(latency, rows, colours),
        *legend(colours),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _round_up(value: float) -> float:
    """To 1, 2, 4, 6, 8 or 10 times a power of ten, so that its quarters are round numbers."""
    power = 10 ** math.floor(math.log10(value))
    return next(float(step * power) for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


def frame(panel: Panel, title: str) -> Iterator[str]:
    right = panel.left + PANEL_WIDTH
    yield _text(panel.left, TOP - 18, title, "title")
    for quarter in range(5):
        value = panel.largest * quarter / 4
        y = panel.y(value)
        yield _line(panel.left, y, right, y, f'class="{"grid" if quarter else "axis"}"')
        yield _text(panel.left - 8, y + 4, f"{value:g}", "end")
    for clients in panel.clients:
        yield _text(panel.x(clients), TOP + PANEL_HEIGHT + 18, str(clients), "middle")
    yield _text((panel.left + right) / 2, TOP + PANEL_HEIGHT + 36, "clients", "middle")


def throughput(panel: Panel, rows: Sequence[dict[str, Any]], colours: dict[str, str]) -> Iterator[str]:
    """A line through the medians, and a thin bar over the range of the rounds."""
    for name, colour in colours.items():
        series = [row for row in rows if row["system"] == name]
        points = " ".join(f"{panel.x(row['clients']):.1f},{panel.y(row['throughput']):.1f}" for row in series)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for row in series:
            x, (low, high) = panel.x(row["clients"]), row["throughput_range"]
            yield _line(x, panel.y(low), x, panel.y(high), f'stroke="{colour}"')
            yield _dot(x, panel.y(row["throughput"]), colour)


def latencies(panel: Panel, rows: Sequence[dict[str, Any]], colours: dict[str, str]) -> Iterator[str]:
    for position, (name, colour) in enumerate(colours.items()):
        for row in (row for row in rows if row["system"] == name):
            x = panel.x(row["clients"], 14 * (position - (len(colours) - 1) / 2))
            yield _line(x, panel.y(row["p50"]), x, panel.y(row["p99"]), f'stroke="{colour}" stroke-width="2"')
            yield _line(x - 4, panel.y(row["p95"]), x + 4, panel.y(row["p95"]), f'stroke="{colour}" stroke-width="2"')
            yield _dot(x, panel.y(row["p50"]), colour)


def legend(colours: dict[str, str]) -> Iterator[str]:
    x = float(LEFT)
    for name, colour in colours.items():
        yield _dot(x + 4, HEIGHT - 18, colour)
        yield _text(x + 14, HEIGHT - 14, name)
        x += 28 + 6.1 * len(name)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("report", type=Path, help="the JSON file of the throughput benchmark")
    parser.add_argument("drawing", type=Path)
    arguments = parser.parse_args()
    arguments.drawing.write_text(draw(json.loads(arguments.report.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
