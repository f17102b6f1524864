"""Draws docs/images/demo.svg: `cube runs log ID | python docs/picture.py`, where ID trained examples/digits."""

import re
import sys
from pathlib import Path

WIDTH, HEIGHT = 860, 330
PLOT = (500, 70, 320, 190)  # left, top, width, height
INK, SOFT, LOSS, ACCURACY = "#24292f", "#6e7781", "#bc4c00", "#0969da"


def main() -> None:
    """Read epochs from standard input, write the picture."""
    found = re.findall(r"epoch\s+(\d+) of \d+\s+loss ([\d.]+)\s+validation accuracy ([\d.]+)", sys.stdin.read())
    epochs = [(int(number), float(loss), float(accuracy)) for number, loss, accuracy in found]
    parts = [*boxes(), *curves(epochs)]
    style = "font-family: ui-sans-serif, system-ui, sans-serif; font-size: 13px"
    picture = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" style="{style}">\n'
    picture += f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#ffffff" stroke="#d0d7de"/>\n'
    picture += "\n".join(parts) + "\n</svg>\n"
    target = Path(__file__).parent / "images" / "demo.svg"
    target.parent.mkdir(exist_ok=True)
    target.write_text(picture, encoding="utf-8")


def text(x: float, y: float, words: str, colour: str = INK, anchor: str = "middle", size: int = 13) -> str:
    """One line of text."""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


def boxes() -> list[str]:
    """What ran, and what each task read and wrote."""
    parts = [text(230, 38, "one file, mlcube.yaml: three tasks", size=15)]
    rows = (("prepare", "data/", 80), ("train", "model/", 165), ("evaluate", "metrics/", 250))
    for name, output, y in rows:
        parts.append(f'<rect x="50" y="{y}" width="130" height="44" rx="8" fill="#ddf4ff" stroke="#54aeff"/>')
        parts.append(text(115, y + 27, name))
        parts.append(f'<rect x="290" y="{y}" width="130" height="44" rx="8" fill="#fff8c5" stroke="#d4a72c"/>')
        parts.append(text(355, y + 27, output))
        parts.append(arrow(180, y + 22, 286, y + 22))
    parts += [arrow(290, 116, 184, 176), arrow(290, 203, 184, 262), arrow(296, 124, 184, 282, dashed=True)]
    return parts


def arrow(x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> str:
    """A line with a head."""
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    ux, uy = (x2 - x1) / length, (y2 - y1) / length
    head = " ".join(f"{x2 - 8 * ux + side * 4 * uy:.1f},{y2 - 8 * uy - side * 4 * ux:.1f}" for side in (1, -1))
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    line = f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{SOFT}"{dash}/>'
    return line + f'<polygon points="{x2:g},{y2:g} {head}" fill="{SOFT}"/>'


def curves(epochs: list[tuple[int, float, float]]) -> list[str]:
    """Loss and validation accuracy by epoch, both from 0 to their greatest."""
    left, top, width, height = PLOT
    most, last = max(loss for _, loss, _ in epochs), epochs[-1][0]

    def points(values: list[tuple[int, float]]) -> str:
        return " ".join(f"{left + width * n / last:.1f},{top + height * (1 - value):.1f}" for n, value in values)

    loss = points([(number, value / most) for number, value, _ in epochs])
    accuracy = points([(number, value) for number, _, value in epochs])
    return [
        text(left + width / 2, 38, "what training printed, kept in the run's log", size=15),
        f'<path d="M{left} {top} V{top + height} H{left + width}" fill="none" stroke="{SOFT}"/>',
        f'<polyline points="{loss}" fill="none" stroke="{LOSS}" stroke-width="2"/>',
        f'<polyline points="{accuracy}" fill="none" stroke="{ACCURACY}" stroke-width="2"/>',
        text(left + width, top + 22, f"validation accuracy {epochs[-1][2]:.3f}", ACCURACY, "end"),
        text(left + width, top + height - 16, f"loss {epochs[0][1]:.2f} → {epochs[-1][1]:.3f}", LOSS, "end"),
        text(left + width / 2, top + height + 24, f"epoch 1 to {last}", SOFT),
        text(left - 8, top + 5, "1", SOFT, "end"),
        text(left - 8, top + height, "0", SOFT, "end"),
    ]


if __name__ == "__main__":
    main()
