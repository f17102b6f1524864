"""Measures what the README claims, and prints it as one table.

    python benchmarks/run.py [--only NAME] [--runs N] [--json FILE]

Exits with 1 when a figure is over its reach, and with 2 when an engine cannot be used, so that its rows are empty.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from cases import Cases, NoEngine
from processes import Call, Failed, pairs, peak_mib, sample, spread

Kind = Literal["cpu ratio", "wall ratio", "added wall ratio", "added cpu", "peak", "wall", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row: what is claimed."""

    name: str
    what: str
    against: str
    reach: float
    kind: Kind
    calls: Callable[[Cases], tuple[Call, Call]]
    without: Callable[[Cases], Call] | None = None
    """The same without what is measured, which is then taken off."""
    share: float = 1.0
    """How many of the runs that are asked for it needs."""


FIGURES = (
    Figure(
        name="version",
        what="`cube --version`",
        against="`python -c pass`, CPU",
        reach=2,
        kind="cpu ratio",
        calls=lambda cases: (cases.cube("--version"), cases.python),
    ),
    Figure(
        name="check",
        what="`cube check` of a typical file",
        against="`python -c pass`, CPU",
        reach=10,
        kind="cpu ratio",
        calls=lambda cases: (cases.check_hello, cases.python),
    ),
    Figure(
        name="large",
        what="`cube check` of 300 tasks x 10 parameters",
        against="of a typical file, wall",
        reach=4,
        kind="wall ratio",
        calls=lambda cases: (cases.check_large, cases.check_hello),
    ),
    Figure(
        name="docker",
        what="`cube run` of a trivial docker task",
        against="the identical `docker run`, wall",
        reach=1.4,
        kind="wall ratio",
        calls=lambda cases: (cases.docker_run, cases.docker_by_hand),
    ),
    Figure(
        name="singularity",
        what="`cube run` of a trivial task in a SIF file",
        against="the identical `apptainer run`, wall",
        reach=1.7,
        kind="wall ratio",
        calls=lambda cases: (cases.singularity_run, cases.singularity_by_hand),
    ),
    Figure(
        name="memory",
        what="the same, peak memory of cube",
        against="",
        reach=45,
        kind="peak",
        calls=lambda cases: (cases.docker_run, cases.docker_run),
        share=0.25,
    ),
    Figure(
        name="podman",
        what="`cube run` of a trivial podman task",
        against="the identical `podman run`, wall",
        reach=1.4,
        kind="wall ratio",
        calls=lambda cases: (cases.podman_run, cases.podman_by_hand),
    ),
    Figure(
        name="sandbox",
        what="`cube run` of the same in a sandbox",
        against="the identical `docker run`, wall",
        reach=0.6,
        kind="wall ratio",
        calls=lambda cases: (cases.sandbox_run, cases.docker_by_hand),
    ),
    Figure(
        name="ssh",
        what="`cube run` of the same on another host",
        against="`ssh HOST docker run`, wall",
        reach=1.5,
        kind="wall ratio",
        calls=lambda cases: (cases.ssh_run, cases.ssh_by_hand),
    ),
    Figure(
        name="slurm",
        what="`cube run` of the same as a batch job",
        against="`sbatch --wait`, wall",
        reach=1.2,
        kind="wall ratio",
        calls=lambda cases: (cases.slurm_run, cases.slurm_by_hand),
    ),
    Figure(
        name="large-file",
        what="`cube run`: what it takes longer with a file of 1 GiB",
        against="`rsync -a`, wall",
        reach=1.1,
        kind="added wall ratio",
        calls=lambda cases: (cases.send_large, cases.send_large_by_hand),
        without=lambda cases: cases.send_nothing,
        share=0.25,
    ),
    Figure(
        name="many-files",
        what="`cube run`: what it takes longer with 10,000 files of 10 kB",
        against="`rsync -a`, wall",
        reach=1.1,
        kind="added wall ratio",
        calls=lambda cases: (cases.send_many, cases.send_many_by_hand),
        without=lambda cases: cases.send_nothing,
        share=0.25,
    ),
    Figure(
        name="local",
        what="`cube run` of a trivial local task",
        against="the process itself, CPU added",
        reach=0.15,
        kind="added cpu",
        calls=lambda cases: (cases.local_run, cases.local_by_hand),
    ),
    Figure(
        name="doctor",
        what="`cube doctor`",
        against="",
        reach=3,
        kind="wall",
        calls=lambda cases: (cases.doctor, cases.doctor),
        share=0.5,
    ),
    Figure(
        name="detached",
        what="100 detached batch jobs, submitted and followed",
        against="",
        reach=5,
        kind="cpu",
        calls=lambda cases: (cases.leave_many, cases.leave_many),
        share=0.1,
    ),
    Figure(
        name="kubernetes",
        what="`cube run` of a trivial task as a Kubernetes job",
        against="`kubectl create` and `kubectl wait`, wall",
        reach=1.2,
        kind="wall ratio",
        calls=lambda cases: (cases.cluster.run, cases.cluster.run_by_hand),
        share=0.5,
    ),
    Figure(
        name="kubernetes-large-file",
        what="the same: what it takes longer with a file of 1 GiB",
        against="`tar` into `kubectl exec`, wall",
        reach=1.3,
        kind="added wall ratio",
        calls=lambda cases: (cases.cluster.send_large, cases.cluster.by_hand(cases.cluster.send_large)),
        without=lambda cases: cases.cluster.send_nothing,
        share=0.25,
    ),
    Figure(
        name="kubernetes-many-files",
        what="the same: what it takes longer with 10,000 files of 10 kB",
        against="`tar` into `kubectl exec`, wall",
        reach=1.3,
        kind="added wall ratio",
        calls=lambda cases: (cases.cluster.send_many, cases.cluster.by_hand(cases.cluster.send_many)),
        without=lambda cases: cases.cluster.send_nothing,
        share=0.25,
    ),
    Figure(
        name="kubernetes-memory",
        what="the same with 1 GiB, peak memory of cube",
        against="",
        reach=60,
        kind="peak",
        calls=lambda cases: (cases.cluster.send_large, cases.cluster.send_large),
        share=0.15,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row: what was found."""

    name: str
    what: str
    against: str
    reach: str
    quartiles: tuple[float, float, float] | None = None
    """Lower, median, upper; None where it could not be measured."""
    shown: str = ""
    verdict: Literal["ok", "OVER", "no engine"] = "no engine"
    ours_ms: float | None = None
    theirs_ms: float | None = None


def measure(figure: Figure, cases: Cases, runs: int) -> Measured:
    """Measure one figure. Raises NoEngine, or Failed when a process that should succeed does not."""
    ours, theirs = figure.calls(cases)
    runs = max(3, round(runs * figure.share))
    if figure.kind == "peak":
        peak_mib(ours)
        return _measured(figure, [peak_mib(ours) for _ in range(runs)])
    if figure.kind in ("wall", "cpu"):
        sample(ours)
        return _measured(figure, [getattr(sample(ours), figure.kind) for _ in range(runs)])
    samples = pairs(ours, theirs, runs)
    clock = "wall" if figure.kind.endswith("wall ratio") else "cpu"
    without = figure.without(cases) if figure.without else None
    taken_off = spread([sample(without).wall for _ in range(runs + 1)][1:])[1] if without else 0.0
    ours_seconds = [getattr(one, clock) - taken_off for one, _ in samples]
    theirs_seconds = [getattr(other, clock) for _, other in samples]
    both = list(zip(ours_seconds, theirs_seconds, strict=True))
    if figure.kind == "added cpu":
        return _measured(figure, [one - other for one, other in both], ours_seconds, theirs_seconds)
    return _measured(figure, [one / other for one, other in both], ours_seconds, theirs_seconds)


def _measured(
    figure: Figure, values: list[float], ours: list[float] | None = None, theirs: list[float] | None = None
) -> Measured:
    quartiles = spread(values)
    return Measured(
        name=figure.name,
        what=figure.what,
        against=figure.against,
        reach=f"<= {_with_unit(figure.reach, figure.kind)}",
        quartiles=quartiles,
        shown=_with_unit(quartiles[1], figure.kind),
        verdict="ok" if quartiles[1] <= figure.reach else "OVER",
        ours_ms=spread(ours)[1] * 1000 if ours else None,
        theirs_ms=spread(theirs)[1] * 1000 if theirs else None,
    )


def _with_unit(value: float, kind: Kind) -> str:
    match kind:
        case "peak":
            return f"{value:.3g} MiB"
        case "added cpu" | "wall" | "cpu":
            return f"{value:.3g} s"
        case _:
            return f"{value:.3g}x"


def _table(rows: list[Measured]) -> str:
    cells: list[tuple[str, ...]] = [("figure", "against", "reach", "measured", "quartiles", "medians", "")]
    for row in rows:
        low, high = (f"{value:.3g}" for value in (row.quartiles[0], row.quartiles[2])) if row.quartiles else ("", "")
        medians = f"{row.ours_ms:.0f} / {row.theirs_ms:.0f} ms" if row.ours_ms and row.theirs_ms else ""
        quartiles = f"{low} to {high}" if row.quartiles else ""
        cells.append((row.what, row.against, row.reach, row.shown, quartiles, medians, row.verdict))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * width for width in widths))
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells)


def main() -> int:
    """Measure what is asked for, print the table and give the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=[figure.name for figure in FIGURES], action="append", help="these figures")
    parser.add_argument("--runs", type=int, default=21, help="how many pairs of each (21)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    given = parser.parse_args()

    rows: list[Measured] = []
    without_engine = ""
    with tempfile.TemporaryDirectory(prefix="cube-benchmarks-") as directory:
        cases = Cases(directory)
        for figure in FIGURES:
            if given.only and figure.name not in given.only:
                continue
            sys.stderr.write(f"measuring {figure.name} ...\n")
            try:
                rows.append(measure(figure, cases, given.runs))
            except NoEngine as reason:
                without_engine = f"{figure.name} was not measured: {reason}"
                reach = f"<= {_with_unit(figure.reach, figure.kind)}"
                rows.append(Measured(name=figure.name, what=figure.what, against=figure.against, reach=reach))
        cases.close()

    cpus = len(os.sched_getaffinity(0))
    print(f"Python {platform.python_version()}, {cpus} CPUs, load {os.getloadavg()[0]:.1f}, {given.runs} pairs each")
    print(_table(rows))
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump([asdict(row) for row in rows], file, indent=2)
    if without_engine:
        sys.stderr.write(f"{without_engine}\n")
        return 2
    return 1 if any(row.verdict == "OVER" for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(f"what was to be measured does not work: {failed}")
