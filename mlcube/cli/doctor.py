"""`cube doctor`: what a run would meet on this site, found out in seconds and before anything moves."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec

from mlcube.checking import Check
from mlcube.cli import console
from mlcube.cli.arguments import Json, Overrides, TaskNames, Trust, Workspace, complete_platforms, overrides
from mlcube.cli.declared import argument, option
from mlcube.doctor import CubeReport, Needed, PlatformReport, Report, examine, inputs
from mlcube.errors import CubeError, escaped
from mlcube.invocation import Invocation
from mlcube.settings import read_settings

EXAMPLE = """\b
Examples:
  cube doctor
  cube doctor docker --mlcube examples/hello_world
  cube doctor cluster --json
"""

PlatformArgument = Annotated[
    str | None,
    argument(metavar="[PLATFORM]", help="the platform; else all of them", autocompletion=complete_platforms),
]
OptionalCube = Annotated[
    str | None, option("--mlcube", metavar="PATH", help="the cube that is to run: a directory, or its file")
]


def command(
    platform: PlatformArgument = None,
    mlcube: OptionalCube = None,
    task: TaskNames = None,
    workspace: Workspace = None,
    override: Overrides = None,
    as_json: Json = False,
    trust: Trust = False,
) -> int:
    """Look whether this site could run a cube: yes or no for each thing it takes, why, and what would mend it.

    Nothing is started, moved or changed. Without --mlcube it is the cube in this directory, if there is one, else the
    site alone. The exit status is 0 if the platform could run it (without a platform: if one could), else what
    `cube run` would end with.
    """
    of_cube, of_runner = overrides(override, platform)
    settings = read_settings()
    console.warnings(settings.warnings)
    if mlcube is None and os.path.exists("mlcube.yaml"):
        mlcube = "."
    needed = _needed(mlcube, task, workspace, of_cube, trust=trust) if mlcube is not None else None
    report = examine(settings, platform, needed, of_runner)
    if as_json:
        console.document(report)
    else:
        for line in _all(report) if platform is None else _one(report):
            console.result(line)
    return report.status


def _needed(path: str, task: list[str] | None, workspace: str | None, of_cube: Sequence[str], *, trust: bool) -> Needed:
    """The cube's tasks, each as far as it can be bound now: what tasks before it write is taken to be there."""
    from mlcube.binding import bind
    from mlcube.cli.arguments import chosen_tasks
    from mlcube.cli.configure import without_task
    from mlcube.cli.naming import cube_of
    from mlcube.record import RunDirectory, new_id

    named = cube_of(path, workspace=workspace, told=False)
    workspace = named.workspace
    cube, warnings = named.read(of_cube, trust=trust)
    console.warnings(warnings)
    names = chosen_tasks(task, tuple(cube.tasks), cube.name) if task else tuple(cube.tasks)
    image = without_task(cube)
    bound: list[Invocation] = []
    problems: dict[str, tuple[CubeError, bool]] = {}
    produced: dict[str, Literal["file", "directory"]] = {}
    run_id = new_id()
    scratch = f"{RunDirectory(run_id).path}/scratch"
    for name in names:
        try:
            invocation = bind(cube, name, workspace=workspace, run_id=run_id, scratch=scratch, produced=produced)
        except CubeError as error:
            # What a task before it writes into a directory is not known yet.
            problems[name] = (error, any(kind == "directory" for kind in produced.values()))
            bare = msgspec.structs.replace(cube.tasks[name], inputs=(), refused=())
            alone = msgspec.structs.replace(cube, tasks={name: bare})
            try:  # what the platform says of its needs can be told all the same
                invocation = bind(alone, name, workspace=workspace, run_id=run_id, scratch=scratch)
            except CubeError:
                continue
        produced |= {output.path: output.type for output in invocation.outputs}
        bound.append(invocation)
    if bound:
        image = msgspec.structs.replace(image, workspace=bound[0].workspace)
    told = CubeReport(name=cube.name, file=cube.file)
    return Needed(cube=told, image=image, tasks=tuple(bound), checks=inputs(problems, names))


def _one(report: Report) -> Iterator[str]:
    """Everything about one platform."""
    (platform,) = report.platforms
    of = f" (runner {platform.runner})" if platform.runner != platform.name else ""
    cube = f", for the cube {report.cube.name}" if report.cube else ""
    yield escaped(f"platform {platform.name}{of}{cube}", lines=False)
    checks = (*platform.checks, *report.machine)
    for host in sorted({check.at for check in checks}, key=lambda each: each or ""):
        yield ""
        yield "on this machine" if host is None else escaped(f"on {host}", lines=False)
        yield from _lines([check for check in checks if check.at == host])
    yield ""
    yield _conclusion(report, platform)


def _conclusion(report: Report, platform: PlatformReport) -> str:
    name = escaped(platform.name, lines=False)
    cube = escaped(report.cube.name, lines=False) if report.cube else None
    if platform.usable:
        return f"{name} could run {cube}" if cube else f"{name} can be used"
    stops = ", ".join(dict.fromkeys(check.name for check in (*report.machine, *platform.checks) if check.stops))
    return f"{name} {f'could not run {cube}' if cube else 'cannot be used'}, because of: {stops}"


def _all(report: Report) -> Iterator[str]:
    """A line for each platform that is usable; for the others what keeps them from it."""
    cube = f" that could run {escaped(report.cube.name, lines=False)}" if report.cube else " that can be used"
    yield f"platforms{cube}"
    width = max(len(each.name) for each in report.platforms)
    for platform in report.platforms:
        name = platform.name.ljust(width)
        if platform.usable:
            yield from _line("yes", name, _summary(platform), None)
            continue
        for at, check in enumerate(_obstacles(platform)):
            verdict = "NO" if check.verdict == "no" else check.verdict
            detail = f"{check.name}: {check.detail}" if check.verdict == "no" else check.detail
            yield from _line("" if at else verdict, "".ljust(width) if at else name, detail, check.mend)
    yield ""
    yield "this machine"
    yield from _lines(report.machine)
    yield ""
    usable = [each.name for each in report.platforms if each.usable]
    if usable:
        yield f"more about one of them: cube doctor {escaped(usable[0], lines=False)}"
    else:
        yield "no platform can be used" if report.cube is None else "no platform could run it"


def _obstacles(platform: PlatformReport) -> list[Check]:
    """What stops it; where that is nothing of its own, where to look."""
    stopping = [check for check in platform.checks if check.stops or check.name == "settings"]
    return stopping or [Check(name="this machine", verdict="no", detail="see below")]


def _summary(platform: PlatformReport) -> str:
    told = [each for each in platform.checks if each.name in ("engine", "daemon", "connection", "scheduler")]
    return "; ".join(check.detail for check in told if check.verdict == "yes")


def _lines(checks: Sequence[Check]) -> Iterator[str]:
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        yield from _line("NO" if check.stops else check.verdict, check.name.ljust(width), check.detail, check.mend)


def _line(verdict: str, name: str, detail: str, mend: str | None) -> Iterator[str]:
    """One check: capitals where it stops a run. As wide as the terminal; in a file, one line each."""
    begin = f"  {verdict:<9}  {escaped(name, lines=False)}  "
    columns = shutil.get_terminal_size((100, 0)).columns if sys.stdout.isatty() else 0
    yield from _wrapped(begin, escaped(detail, lines=False), columns)
    if mend:
        yield from _wrapped(f"{'':{len(begin)}}-> ", escaped(mend, lines=False), columns)


def _wrapped(begin: str, text: str, columns: int) -> list[str]:
    if columns < len(begin) + 30:
        return [(begin + text).rstrip()]
    wrapper = textwrap.TextWrapper(
        columns,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapper.wrap(text) or [begin.rstrip()]
