"""Looks at a site before anything is run there: every platform's checks, and what a cube would meet on it."""

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mlcube import directories, patience, site
from mlcube.checking import Check, Checking, no, not_asked, yes
from mlcube.errors import CubeError, EngineUnavailable, MissingInput, PreparationFailed, Refused, UsageError
from mlcube.host import ask_now
from mlcube.invocation import Invocation
from mlcube.platforms import Platform, resolve
from mlcube.runner import Answer, Fact, Host
from mlcube.settings import Settings

__all__ = ["CubeReport", "Needed", "PlatformReport", "Report", "examine", "inputs", "names"]

_SECONDS = 10.0
"""How long any one question may take; all of a round are asked at the same time."""

_Answers = Mapping[tuple[str, ...], Answer]


class CubeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The cube that is to be run."""

    name: str
    file: str


class PlatformReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a platform."""

    name: str
    runner: str
    usable: bool
    """Whether it could run the cube; without a cube, whether it can be used."""
    status: int
    """0, or the exit status with which `cube run` would end there."""
    checks: tuple[Check, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `cube doctor --json` prints."""

    status: int
    """The exit status: 0 if the platform that was asked for is usable, or at least one where none was."""
    cube: CubeReport | None
    machine: tuple[Check, ...]
    """What holds for every platform: the cube's inputs, and room on this machine."""
    platforms: tuple[PlatformReport, ...]


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """What a cube needs: its image, its tasks as far as they could be bound, and why not further."""

    cube: CubeReport
    image: Invocation
    """Of no task: only the image or environment matters."""
    tasks: tuple[Invocation, ...]
    checks: tuple[Check, ...]


def names(settings: Settings) -> tuple[str, ...]:
    """Every platform that is written, then those that are named like their runner."""
    from mlcube.runner import installed

    return tuple(dict.fromkeys((*settings.names(), *installed())))


def inputs(problems: Mapping[str, tuple[CubeError, bool]], tasks: Sequence[str]) -> tuple[Check, ...]:
    """What was said when the tasks were bound to the workspace, and whether a task before it may still mend it."""
    checks: list[Check] = []
    for error, may_come in problems.values():
        for each in error.problems:
            match error:
                case MissingInput() if may_come:
                    checks.append(not_asked("inputs", f"{each.message}, unless a task before it writes it", each.hint))
                case MissingInput():
                    checks.append(no("inputs", each.message, each.hint, stops=error.status))
                case UsageError():  # a parameter without a value, which the user gives to `cube run`
                    checks.append(not_asked("inputs", each.message, each.hint))
                case _:
                    checks.append(no("consent", each.message, each.hint, stops=error.status))
    ready = ", ".join(f"`{task}`" for task in tasks if task not in problems)
    found = (yes("inputs", f"all that {ready} must be given is here"),) if ready else ()
    return (*found, *dict.fromkeys(checks))


def examine(
    settings: Settings, wanted: str | None, needed: Needed | None, options: Mapping[str, Any] | None = None
) -> Report:
    """Ask everything anew, in at most two rounds, and say what it means.

    Raises UsageError or InvalidFile for a platform that is wanted and cannot be understood.
    """
    resolved, misunderstood = _resolved(settings, wanted, options)
    room = site.room_fact(_places(needed))
    facts = {each.name: _facts(each) for each in resolved}
    answers = ask_now(
        (room, site.QUOTA, *(fact for each in facts.values() for fact in each)),
        timeout_seconds=patience.answer_seconds(_SECONDS),
    )
    hosts = {name: _read(each, answers) for name, each in facts.items()}
    disk = max((each.resources.disk_bytes or 0 for each in needed.tasks), default=0) if needed else 0
    here = _read((room, site.QUOTA), answers)
    machine = (*(needed.checks if needed else ()), *site.room(here, disk), site.quota(here))
    looked = {each.name: _checks(each, hosts[each.name], needed) for each in resolved}
    images = _images(resolved, hosts, needed)
    reports = [_report(each, machine, (*looked[each.name], *images.get(each.name, ()))) for each in resolved]
    order = (wanted,) if wanted else names(settings)
    reports = sorted((*reports, *misunderstood), key=lambda each: order.index(each.name))
    cube = needed.cube if needed else None
    return Report(status=_status(reports), cube=cube, machine=machine, platforms=tuple(reports))


def _resolved(
    settings: Settings, wanted: str | None, options: Mapping[str, Any] | None
) -> tuple[list[Platform], list[PlatformReport]]:
    """The platforms that can be asked, and those that cannot."""
    if wanted:
        return [resolve(settings, wanted, options)], []
    found, misunderstood = [], []
    for name in names(settings):
        try:
            found.append(resolve(settings, name, options if name == settings.default_platform else None))
        except CubeError as error:  # noqa: PERF203 - each in turn
            first, written = error.problems[0], settings.platforms.get(name)
            if written:
                check = no("settings", first.message, first.hint or f"correct {settings.file}", stops=error.status)
            else:  # a runner that nobody has said anything about
                check = not_asked("settings", first.message, f"`cube config --create-platform {name} NAME ...`")
            runner = written["runner"] if written else name
            misunderstood.append(
                PlatformReport(name=name, runner=runner, usable=False, status=error.status, checks=(check,))
            )
    return found, misunderstood


def _places(needed: Needed | None) -> dict[str, str]:
    workspace = {"workspace": needed.image.workspace} if needed else {}
    temporary = os.environ.get("TMPDIR") or tempfile.gettempdir()
    return {**workspace, "cache": directories.cache(), "state": directories.state(), "temporary files": temporary}


def _facts(platform: Platform) -> tuple[Fact, ...]:
    runner = platform.runner
    return (*runner.facts(), *(runner.questions() if isinstance(runner, Checking) else ()))


def _read(facts: Iterable[Fact], answers: _Answers) -> dict[str, Any]:
    return {fact.name: fact.parse(answers[fact.argv]) for fact in facts}


def _checks(platform: Platform, host: Host, needed: Needed | None) -> tuple[Check, ...]:
    """What the runner says of the host, and which tasks it would refuse there."""
    runner = platform.runner
    reason = runner.unusable(host)
    checks: tuple[Check, ...] = runner.checks(host) if isinstance(runner, Checking) else ()
    if reason and not any(check.stops for check in checks):
        checks = (*checks, no("engine", *reason, stops=EngineUnavailable.status))
    elif not reason and not checks:
        checks = (yes("engine", f"runner `{platform.runner_name}` can be used; it has no checks of its own"),)
    if reason or not needed:
        return checks
    return (*checks, *(_task(platform, each, host) for each in needed.tasks))


def _task(platform: Platform, invocation: Invocation, host: Host) -> Check:
    if refusal := _refusal(platform, invocation, host):
        return no("task", f"`{invocation.task}`: {refusal[0]}", refusal[1], stops=Refused.status)
    return yes("task", f"`{invocation.task}` gets all that it asks for")


def _refusal(platform: Platform, invocation: Invocation, host: Host) -> tuple[str, str | None] | None:
    try:
        found: tuple[str, str | None] | None = platform.runner.refuses(invocation, host)
    except Refused as refused:
        return refused.problems[0].message, refused.hint
    return found


def _images(
    platforms: Sequence[Platform], hosts: Mapping[str, Host], needed: Needed | None
) -> dict[str, tuple[Check, ...]]:
    """Whether the image is on each of the platforms that could carry it, else where it would come from."""
    if needed is None:
        return {}
    image, asked = needed.image, {}
    for platform in platforms:
        host, runner = hosts[platform.name], platform.runner
        if runner.unusable(host) or _refusal(platform, image, host):
            continue
        try:
            identity = runner.identify(image, host)
            sources = runner.sources(image, host) if isinstance(runner, Checking) else ()
        except Refused:
            continue  # a task says it
        asked[platform.name] = (identity, sources)
    every = (fact for identity, sources in asked.values() for fact in (identity, *sources) if fact)
    answers = ask_now(every, timeout_seconds=patience.answer_seconds(_SECONDS))
    return {name: _image(name, image, *found, answers) for name, found in asked.items()}


def _image(
    platform: str, image: Invocation, identity: Fact | None, sources: Sequence[Fact], answers: _Answers
) -> tuple[Check, ...]:
    what = f"`{image.image}`" if image.image and not image.python else f"the environment of `{image.cube}`"
    if identity is None:
        return (not_asked("image", "this platform cannot tell images apart"),)
    if found := identity.parse(answers[identity.argv]):
        return (yes("image", f"{what} is there ({str(found['id']).removeprefix('sha256:')[:12]})"),)
    mend = f"to have it before the first run: `cube configure --platform {platform}`"
    if not sources:
        made = f"built from {os.path.basename(image.recipe.file)}" if image.recipe else "made"
        return (no("image", f"{what} is not there yet, and is {made} before the first run", mend),)
    told = tuple(source.parse(answers[source.argv]) for source in sources)
    if any(check.verdict != "no" for check in told):
        told = tuple(check for check in told if check.verdict != "no") if _held(told) else told
        return (no("image", f"{what} is not there yet, and is fetched before the first run", mend), *told)
    last = msgspec.structs.replace(told[-1], stops=PreparationFailed.status)
    return (no("image", f"{what} is not there"), *told[:-1], last)


def _held(told: Sequence[Check]) -> bool:
    """Whether it comes from nearer than a registry, so that the registry does not matter."""
    return any(check.verdict == "yes" and check.name != "registry" for check in told)


def _report(platform: Platform, machine: tuple[Check, ...], checks: tuple[Check, ...]) -> PlatformReport:
    """As `cube run` goes: what a cube is given, then the platform, then what is written where."""
    ordered = (
        *(check for check in machine if check.name in ("inputs", "consent")),
        *checks,
        *(check for check in machine if check.name not in ("inputs", "consent")),
    )
    status = next((check.stops for check in ordered if check.stops), 0)
    return PlatformReport(
        name=platform.name, runner=platform.runner_name, usable=not status, status=status, checks=checks
    )


def _status(reports: Sequence[PlatformReport]) -> int:
    """0 if one of them could; else what all of them say, or that no engine is available."""
    if any(report.usable for report in reports):
        return 0
    told = {report.status for report in reports if any(check.stops for check in report.checks)}
    told = told or {report.status for report in reports}
    return told.pop() if len(told) == 1 else EngineUnavailable.status
