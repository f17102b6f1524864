"""Platforms: runners with this machine's options, and which of them carries what the user asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from mlcube.errors import (
    CubeError,
    EngineUnavailable,
    InvalidFile,
    Position,
    Problem,
    Refused,
    UsageError,
    did_you_mean,
    lowered,
)
from mlcube.invocation import Invocation
from mlcube.runner import Host, Runner, find
from mlcube.settings import Settings

__all__ = ["Choice", "Platform", "choose", "resolve"]

_MLCUBE_OPTIONS = frozenset(
    (
        *("image", "docker", "env_args", "gpu_args", "cpu_args", "build_args", "build_context", "build_file"),
        *("build_strategy", "port", "image_dir", "singularity", "run_args", "remote_root", "interpreter"),
        *("authentication", "platform", "pvc", "--mount_opts", "--network", "--security", "--security-opt"),
        *("--gpus", "--memory", "--cpuset-cpus", "--nv", "--vm-ram", "--vm-cpu"),
    )
)
"""Options that MLCube writes into its settings files; here, most of them are the cube's business."""


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """A runner with this machine's options, under the name that the user chose."""

    name: str
    runner_name: str
    runner: Any
    """A `Runner`, ready to render."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The platform that carries a run, and why it was chosen when the user named none."""

    platform: Platform
    host: Mapping[str, Any]
    reason: str | None = None
    unusable: Any = None
    """The error that performing a plan there would be, for a rehearsal."""


def resolve(settings: Settings, name: str, options: Mapping[str, Any] | None = None) -> Platform:
    """The platform of that name, with `options` of the command line above the written ones.

    Raises UsageError when there is none, InvalidFile with every option that is wrong.
    """
    return _Resolving(settings).platform(name, options or {})


def choose(
    name: str | None,
    settings: Settings,
    invocations: Sequence[Invocation],
    gather: Callable[[Runner], Host],
    options: Mapping[str, Any] | None = None,
    *,
    rehearsal: bool = False,
    preferred: Mapping[str, str] | None = None,
) -> Choice:
    """The platform of that name; without one the settings' default, else the first that can carry the invocations.

    Those that are `preferred`, each with the reason to tell, are asked before the others.

    A `rehearsal` performs nothing, so that a platform that is named need not be usable: `Choice.unusable` says it.

    Raises EngineUnavailable or Refused, with what would make it so, when none can.
    """
    if (named := settings.default_platform if name is None else name) is not None:
        platform = resolve(settings, named, options)
        host = gather(platform.runner)
        reason = None if name else f"the default of {settings.file}"
        objection = _objection(platform, host, invocations)
        if rehearsal and isinstance(objection, EngineUnavailable):
            return Choice(platform=platform, host=host, reason=reason, unusable=objection)
        if objection:
            raise objection
        return Choice(platform=platform, host=host, reason=reason)
    from mlcube.runner import candidates

    objections: list[CubeError] = []
    passed: list[str] = []
    known = (*candidates(), *settings.platforms)
    first = {each: preferred[each] for each in known if each in preferred} if preferred else {}
    for candidate in dict.fromkeys((*first, *candidates())):
        platform = resolve(settings, candidate, options)
        host = gather(platform.runner)
        objection = _objection(platform, host, invocations)
        if objection is None:
            reason = first.get(candidate) or _passed_over(objections, passed)
            return Choice(platform=platform, host=host, reason=reason)
        objections.append(objection)
        passed.append(candidate)
    raise _nobody(objections, invocations)


def _passed_over(objections: Sequence[CubeError], names: Sequence[str]) -> str:
    """Why it was not the first that is asked; the others only by name, so that it is one line."""
    if not objections:
        return "usable here, and the first that is asked"
    others = ", ".join(f"`{name}`" for name in names[1:])
    return f"{objections[0].args[0]}{f'; nor can {others}' if others else ''}"


def _objection(platform: Platform, host: Host, invocations: Sequence[Invocation]) -> CubeError | None:
    """Why this platform cannot carry these invocations; None when it can."""
    if reason := platform.runner.unusable(host):
        return EngineUnavailable(f"platform `{platform.name}` cannot be used here: {reason[0]}", hint=reason[1])
    for invocation in invocations:
        if reason := platform.runner.refuses(invocation, host):
            message = f"platform `{platform.name}` cannot carry task `{invocation.task}`: {reason[0]}"
            return Refused(message, hint=reason[1])
    return None


def _nobody(objections: list[CubeError], invocations: Sequence[Invocation]) -> CubeError:
    tasks = ", ".join(f"`{invocation.task}`" for invocation in invocations)
    refused = all(isinstance(objection, Refused) for objection in objections)
    error = (Refused if refused else EngineUnavailable)(f"no platform of this machine can carry {tasks}")
    error.problems += tuple(problem for objection in objections for problem in objection.problems)
    return error


class _Resolving:
    """Builds runners out of options; remembers which platforms wrap each other, so that no circle is followed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.open: list[str] = []

    def platform(self, name: str, options: Mapping[str, Any], position: Position | None = None) -> Platform:
        written = self.settings.platforms.get(name)
        runner_name = written["runner"] if written else name
        try:
            kind = find(runner_name)
        except UsageError as error:
            if written:
                where = self.settings.at("platforms", name, "runner")
                raise UsageError(str(error.args[0]), hint=error.hint, position=where) from None
            raise self.unknown(name, position) from None
        if name in self.open:
            circle = " -> ".join([*self.open[self.open.index(name) :], name])
            raise UsageError(f"platforms wrap each other in a circle: {circle}", position=position)
        self.open.append(name)
        try:
            written_options = {key: value for key, value in (written or {}).items() if key != "runner"}
            runner = self.runner(name, runner_name, kind, written_options, options)
        finally:
            self.open.pop()
        return Platform(name=name, runner_name=runner_name, runner=runner)

    def unknown(self, name: str, position: Position | None) -> UsageError:
        from mlcube.runner import installed

        known = tuple(dict.fromkeys((*self.settings.platforms, *installed())))
        return UsageError(
            f"no platform is named `{name}`",
            hint=f"{did_you_mean(name, known) or 'list them'} (`cube platforms`)",
            position=position,
        )

    def runner(
        self, name: str, runner_name: str, kind: Any, written: Mapping[str, Any], given: Mapping[str, Any]
    ) -> Runner:
        if not (written or given):
            try:
                plain: Runner = kind()
            except TypeError:
                pass  # it has options without a default: they are named below
            else:
                return plain
        import typing

        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        hints = typing.get_type_hints(kind, include_extras=True)
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        for key, value in {**written, **given}.items():
            if key not in fields:
                problem = self.unknown_option(name, runner_name, key, value, tuple(fields), key in given)
                if problem:
                    problems.append(problem)
                elif key == runner_name:
                    values.setdefault("executable", value)
                continue
            where = Position(f"-Prunner.{key}") if key in given else self.settings.at("platforms", name, key)
            try:
                values[key] = self.value(value, hints[key], where)
            except CubeError as error:
                problems += error.problems
            except msgspec.ValidationError as error:
                message = f"option `{key}` of runner `{runner_name}`: {lowered(str(error))}"
                problems.append(Problem(message=message, position=where))
        where = self.settings.at("platforms", name, of_key=True)
        problems += [
            Problem(
                message=f"platform `{name}` needs the option `{key}` of runner `{runner_name}`",
                position=where if name in self.settings.platforms else None,
                hint=f"cube config create-platform {runner_name} NAME --{key.replace('_', '-')} ...",
            )
            for key, field in fields.items()
            if field.required and key not in written and key not in given
        ]
        if problems:
            raise InvalidFile(tuple(problems))
        try:
            runner: Runner = kind(**values)
        except ValueError as error:
            raise UsageError(lowered(str(error)), position=where) from None
        return runner

    def unknown_option(
        self, name: str, runner_name: str, key: str, value: Any, fields: tuple[str, ...], given: bool
    ) -> Problem | None:
        """The problem with an option that the runner does not have; None where MLCube's file may say it."""
        if not given and self.settings.from_mlcube and key in _MLCUBE_OPTIONS:
            words = key != runner_name or (isinstance(value, str) and " " not in value and "executable" in fields)
            if words:
                return None
        where = Position(f"-Prunner.{key}") if given else self.settings.at("platforms", name, key, of_key=True)
        message = f"runner `{runner_name}` has no option `{key}`"
        return Problem(message=message, position=where, hint=did_you_mean(key, fields))

    def value(self, value: Any, hint: Any, where: Position) -> Any:
        import typing

        if hint is Runner or Runner in typing.get_args(hint):
            if not isinstance(value, str):
                raise UsageError("this is the name of a platform", position=where)
            return self.platform(value, {}, where).runner
        return msgspec.convert(value, hint)
