"""Writes docs/explained/house.svg, what each package of the program imports, and the table of packages in design.md.

Each package stands on a floor above everything that it imports. An import is not drawn where it follows from
others: if `cli` imports `engine` and `engine` imports `store`, the line from `cli` to `store` is left out.
"""

import ast
import graphlib
import re
import sys
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "roundsman"
PICTURE = ROOT / "docs" / "explained" / "house.svg"
PAGE = ROOT / "docs" / "explained" / "design.md"
HEAD = "| Package | What it is |\n|---|---|\n"
WIDTH, HEIGHT = 104, 34
"""Of a box, in pixels."""
ACROSS, DOWN = 20, 40
"""Between boxes, in pixels."""
MARGIN = 12
STYLE = """
text { font: 13px ui-monospace, monospace; text-anchor: middle; fill: #1b2733 }
rect { fill: #eef2f6; stroke: #5b7083 }
path { fill: none; stroke: #8a9bab }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } rect { fill: #22303c; stroke: #8fa6b8 } path { stroke: #61788a }
}
"""

Graph = dict[str, set[str]]
"""Package -> the packages that it imports."""


def packages() -> Graph:
    """The imports between the packages and top-level modules, also those for annotations only."""
    found: Graph = {}
    for path in SRC.rglob("*.py"):
        name = path.relative_to(SRC).parts[0].removesuffix(".py")
        if not name.startswith("__"):
            found.setdefault(name, set()).update(_imports(path) - {name})
    return found


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "roundsman":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return {name for name in names if not name.startswith("__")}


def floors(graph: Graph) -> list[list[str]]:
    """The packages from the lowest floor up; each imports only from floors below its own."""
    floor: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        floor[name] = 1 + max((floor[other] for other in graph[name]), default=-1)
    return [
        sorted(name for name in floor if floor[name] == level) for level in range(max(floor.values()) + 1)
    ]


def direct(graph: Graph) -> Graph:
    """The graph without the imports that follow from others."""
    reached: Graph = {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        reached[name] = set().union(*({other} | reached[other] for other in graph[name]))
    return {
        name: {other for other in others if not any(other in reached[via] for via in others - {other})}
        for name, others in graph.items()
    }


@dataclass
class Drawing:
    """Boxes and lines on floors. A line that passes a floor has a point there, so that it passes beside boxes."""

    rows: list[list[str]]
    below: dict[str, list[str]]
    """Box or point -> the boxes or points on the next floor that its lines lead to."""
    lines: list[list[str]]
    """Each line: a box, the points that it passes, a box."""


def drawing(graph: Graph) -> Drawing:
    rows = floors(graph)
    floor = {name: number for number, names in enumerate(rows) for name in names}
    drawn = Drawing([list(names) for names in rows], {}, [])
    for name, others in sorted(direct(graph).items()):
        for other in sorted(others):
            line = [name]
            for level in range(floor[name] - 1, floor[other], -1):
                point = f"{name}-{other}-{level}"
                drawn.rows[level].append(point)
                line.append(point)
            line.append(other)
            drawn.lines.append(line)
            for upper, lower in pairwise(line):
                drawn.below.setdefault(upper, []).append(lower)
    return drawn


def places(drawn: Drawing, boxes: set[str]) -> dict[str, float]:
    """The middle of each box and point, from the left: ordered by what it is tied to, some times up and down."""
    above: dict[str, list[str]] = {}
    for upper, lowers in drawn.below.items():
        for lower in lowers:
            above.setdefault(lower, []).append(upper)
    found: dict[str, float] = {}
    for names in drawn.rows:
        _spread(names, boxes, found)
    for ties, rows in (
        *((drawn.below, drawn.rows), (above, drawn.rows[::-1])) * 8,
        (drawn.below, drawn.rows),
    ):
        for names in rows:
            wished = {
                name: _middle([found[tied] for tied in ties.get(name, ())] or [found[name]]) for name in names
            }
            names.sort(key=lambda name: (wished[name], name))
            _spread(names, boxes, found, wished)
    left = min(found[name] - WIDTH / 2 for name in boxes)
    return {name: x - left + MARGIN for name, x in found.items()}


def _middle(values: list[float]) -> float:
    return sum(values) / len(values)


def _spread(
    names: list[str], boxes: set[str], found: dict[str, float], wished: dict[str, float] | None = None
) -> None:
    """Place a row as near to its wishes as its order and the widths allow."""
    right = [0.0]
    for name in names:
        right.append(right[-1] + (WIDTH + ACROSS if name in boxes else ACROSS))
    middles = dict(zip(names, map(_middle, map(list, pairwise(right))), strict=True))
    # Each of a group of neighbours that would overlap is moved by the mean of what they want to move.
    groups: list[tuple[float, list[str]]] = []
    for name in names:
        group = (((wished or middles)[name] - middles[name]), [name])
        while groups and groups[-1][0] >= group[0]:
            shift, members = groups.pop()
            count = len(members) + len(group[1])
            group = ((shift * len(members) + group[0] * len(group[1])) / count, [*members, *group[1]])
        groups.append(group)
    found |= {name: middles[name] + shift for shift, members in groups for name in members}


def picture() -> str:
    """The SVG."""
    graph = packages()
    drawn = drawing(graph)
    floor = {name: number for number, names in enumerate(drawn.rows) for name in names}
    across = places(drawn, set(graph))
    width = max(across.values()) + WIDTH / 2 + MARGIN
    height = 2 * MARGIN + len(drawn.rows) * (HEIGHT + DOWN) - DOWN

    def down(name: str) -> float:
        return MARGIN + HEIGHT / 2 + (len(drawn.rows) - 1 - floor[name]) * (HEIGHT + DOWN)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" role="img">',
        "<title>The packages of Roundsman; each imports only from packages below it</title>",
        f"<style>{STYLE}</style>",
    ]
    for line in drawn.lines:
        path = f"M{across[line[0]]:.0f} {down(line[0]) + HEIGHT / 2:.0f}"
        for upper, lower in pairwise(line):
            top, bottom = down(upper) + HEIGHT / 2, down(lower) - HEIGHT / 2
            middle = (top + bottom) / 2
            path += f"C{across[upper]:.0f} {middle:.0f} {across[lower]:.0f} {middle:.0f} {across[lower]:.0f} {bottom:.0f}"
            path += f"V{bottom + HEIGHT:.0f}" if lower not in graph else ""
        lines.append(f'<path d="{path}"/>')
    for name in sorted(graph):
        x, y = across[name], down(name)
        lines.append(
            f'<rect x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
            f'<text x="{x:.0f}" y="{y + 4:.0f}">{escape(name)}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def page() -> str:
    """The design page, with the first sentence of each package's docstring in its table."""
    rows = ""
    for path in sorted(SRC.iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix == ".py" and file.exists() and not path.name.startswith("__"):
            said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            first = re.split(r"(?<=\.)\s", said.partition("\n\n")[0].replace("\n", " "))[0].rstrip(".")
            rows += f"| `{path.name}{'/' * path.is_dir()}` | {first} |\n"
    before, head, after = PAGE.read_text(encoding="utf-8").partition(HEAD)
    return (
        before
        + head
        + rows
        + after[after.index("\n\n" if after.startswith("|") else "\n") + after.startswith("|") :]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PICTURE.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}\n")
