"""A drawing of what a cube's tasks pass to one another, as SVG: files and folders, and the tasks between them."""

import posixpath
from collections.abc import Mapping, Sequence
from html import escape

import msgspec

from mlcube.zoo.entries import Task

__all__ = ["drawing"]

_MOST_NODES = 80
_WIDTH, _HEIGHT = 168, 40
_ACROSS, _DOWN = 24, 34
_MARGIN, _LANE = 8, 18
_LETTERS = 20
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8z"/></marker></defs>'
)

Node = tuple[str, str]
"""`task` or `file`, and the name or path."""
Edge = tuple[Node, Node]


class _Box(msgspec.Struct, frozen=True):
    x: int
    y: int
    row: int


def drawing(tasks: Sequence[Task]) -> str:
    """The SVG; nothing for a cube without files, or with more than a drawing could show."""
    edges = _edges(tasks)
    nodes = list(dict.fromkeys([*(("task", task.name) for task in tasks), *(each for edge in edges for each in edge)]))
    if not edges or len(nodes) > _MOST_NODES:
        return ""
    rows = _rows(nodes, edges)
    boxes, width, height = _boxes(nodes, rows)
    lines, lanes = _lines(edges, boxes, width)
    width += lanes * _LANE
    said = "; ".join(
        f"{task.name} reads {_listed(task.inputs) or 'no files'} and writes {_listed(task.outputs) or 'no files'}"
        for task in tasks
    )
    begin = (
        f'<svg class="graph" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(f"Tasks and their files: {said}")}">'
    )
    return "\n".join([begin, _ARROW, *lines, *(_drawn(node, boxes[node]) for node in nodes), "</svg>"])


def _listed(parameters: Sequence[object]) -> str:
    return ", ".join(str(path) for each in parameters if (path := getattr(each, "path", None)))


def _edges(tasks: Sequence[Task]) -> list[Edge]:
    """From each input to its task, and from the task to each output; a path is the same wherever it is written."""
    edges: dict[Edge, None] = {}
    for task in tasks:
        node = ("task", task.name)
        for each in task.inputs:
            if each.path is not None:
                edges[("file", _normal(each.path)), node] = None
        for each in task.outputs:
            if each.path is not None:
                edges[node, ("file", _normal(each.path))] = None
    return list(edges)


def _normal(path: str) -> str:
    return posixpath.normpath(path) if path else "."


def _rows(nodes: Sequence[Node], edges: Sequence[Edge]) -> Mapping[Node, int]:
    """The row of each node: below all that lead to it, except where tasks wait for one another in a circle."""
    before: dict[Node, set[Node]] = {node: set() for node in nodes}
    for source, target in edges:
        before[target].add(source)
    rows: dict[Node, int] = {}
    while len(rows) < len(nodes):
        ready = [node for node in nodes if node not in rows and before[node] <= rows.keys()]
        if not ready:
            ready = [next(node for node in nodes if node not in rows)]
        for node in ready:
            rows[node] = max((rows[each] + 1 for each in before[node] if each in rows), default=0)
    for node in nodes:  # what is only read stands right above its first reader
        readers = [rows[target] for source, target in edges if source == node]
        if not before[node] and readers and min(readers) > 0:
            rows[node] = min(readers) - 1
    return rows


def _boxes(nodes: Sequence[Node], rows: Mapping[Node, int]) -> tuple[dict[Node, _Box], int, int]:
    levels: dict[int, list[Node]] = {}
    for node in nodes:
        levels.setdefault(rows[node], []).append(node)
    width = max(len(level) for level in levels.values()) * (_WIDTH + _ACROSS) - _ACROSS + 2 * _MARGIN
    boxes: dict[Node, _Box] = {}
    for place, row in enumerate(sorted(levels)):
        level = levels[row]
        start = (width - len(level) * (_WIDTH + _ACROSS) + _ACROSS) // 2
        for index, node in enumerate(level):
            boxes[node] = _Box(start + index * (_WIDTH + _ACROSS), _MARGIN + place * (_HEIGHT + _DOWN), place)
    return boxes, width, _MARGIN * 2 + len(levels) * (_HEIGHT + _DOWN) - _DOWN


def _lines(edges: Sequence[Edge], boxes: Mapping[Node, _Box], width: int) -> tuple[list[str], int]:
    """Arrows to the next row straight, others around the right side, each in a lane of its own."""
    drawn, lanes = [], 0
    for source, target in edges:
        start, end = boxes[source], boxes[target]
        if end.row == start.row + 1:
            x, y = start.x + _WIDTH // 2, start.y + _HEIGHT
            to, bottom = end.x + _WIDTH // 2, end.y - 2
            middle = (y + bottom) // 2
            drawn.append(f'<path class="edge" d="M{x} {y}C{x} {middle} {to} {middle} {to} {bottom}"/>')
            continue
        lanes += 1
        lane = width + lanes * _LANE - _MARGIN
        x, y = start.x + _WIDTH, start.y + _HEIGHT // 2
        to, bottom = end.x + _WIDTH + 2, end.y + _HEIGHT // 2
        turn = 10 if bottom > y else -10
        drawn.append(
            f'<path class="edge" d="M{x} {y}H{lane - 10}Q{lane} {y} {lane} {y + turn}'
            f'V{bottom - turn}Q{lane} {bottom} {lane - 10} {bottom}H{to}"/>'
        )
    return drawn, lanes


def _drawn(node: Node, box: _Box) -> str:
    kind, name = node
    shown = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
    radius = 6 if kind == "task" else _HEIGHT // 2
    return (
        f'<g class="{kind}"><title>{escape(name)}</title>'
        f'<rect x="{box.x}" y="{box.y}" width="{_WIDTH}" height="{_HEIGHT}" rx="{radius}"/>'
        f'<text x="{box.x + _WIDTH // 2}" y="{box.y + _HEIGHT // 2}">{escape(shown)}</text></g>'
    )
