"""The inputs and outputs of a task: names, types, places and constraints."""

import math
import os.path
import re
from typing import Any, Literal

from mlcube.cube import SOURCE, Parameter, Secret
from mlcube.document import ParameterFile
from mlcube.reading.report import Report
from mlcube.source import Key
from mlcube.validation import named

__all__ = ["WORD", "mount_place", "no_clashes", "parameter", "violated"]

WORD = re.compile(r"[^\s=,-][^\s=,]*")
_RESERVED = ("/", "/tmp", "/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/lib")  # noqa: S108 - container places
_SCALARS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "float": (int, float),
    "boolean": (bool,),
}


def parameter(
    report: Report, task: str, side: Literal["inputs", "outputs"], name: str, written: ParameterFile | str | None
) -> Parameter:
    """One parameter, in whichever of its three spellings."""
    key: Key = ("tasks", task, "parameters", side, name)
    if not isinstance(written, ParameterFile):
        written = ParameterFile(default=written)
    if not WORD.fullmatch(name):
        hint = "letters, digits, `_`, `.` and `-`"
        report.error(f"`{name}` cannot be the name of a parameter", *key, hint=hint, of_key=True)
    output = side == "outputs"
    scalar = written.type in _SCALARS
    if output and scalar:
        hint = "an output is a file or a directory"
        report.error(f"output `{name}` cannot be of type `{written.type}`", *key, "type", hint=hint)
    if output and written.opts == "ro":
        report.error(f"output `{name}` cannot be read-only", *key, "opts", hint="leave `opts` out")
    if written.mount is not None:
        mount_place(report, written.mount, *key, "mount")
    parameter = Parameter(
        name=name,
        direction="output" if output else "input",
        type=written.type,
        default=written.default,
        access=written.opts,
        optional=written.optional,
        mount=written.mount and _normal(written.mount),
        choices=tuple(written.choices or ()),
        minimum=written.minimum,
        maximum=written.maximum,
        pattern=written.pattern,
        description=report.text(written.description, *key, "description"),
    )
    if written.choices == [] and (*key, "choices") not in report.spoiled:
        hint = "name at least one, or leave `choices` out"
        report.error(f"`choices` of `{name}` is empty, so that no value could be given", *key, "choices", hint=hint)
    _scalar(report, parameter, key) if scalar else _path(report, parameter, key)
    return parameter


def _path(report: Report, parameter: Parameter, key: Key) -> None:
    if parameter.default is not None and not isinstance(parameter.default, str):
        shown = str(parameter.default).lower() if isinstance(parameter.default, bool) else parameter.default
        what = "a truth value" if isinstance(parameter.default, bool) else "a number"
        hint = f'quote it, as "{shown}", or give the parameter a type such as `integer`'
        report.error(f"the path of `{parameter.name}` must be text, not {what}", *key, "default", hint=hint)
    elif isinstance(parameter.default, str) and "\0" in parameter.default:
        report.error(f"the path of `{parameter.name}` holds a null character", *key, "default")
    for field in ("choices", "minimum", "maximum", "pattern"):
        if getattr(parameter, field) not in (None, ()):
            hint = "give the parameter the type `string`, `integer`, `float` or `boolean`"
            report.error(f"`{field}` is for scalars; `{parameter.name}` is a path", *key, field, hint=hint)


def _scalar(report: Report, parameter: Parameter, key: Key) -> None:
    fits = _SCALARS[parameter.type or ""]
    numeric = parameter.type in ("integer", "float")
    for field in ("minimum", "maximum"):
        if getattr(parameter, field) is not None and not numeric:
            report.error(f"`{field}` is for numbers; `{parameter.name}` is a {parameter.type}", *key, field)
    if parameter.minimum is not None and parameter.maximum is not None and parameter.minimum > parameter.maximum:
        report.error(f"`minimum` of `{parameter.name}` is greater than its `maximum`", *key, "minimum")
    for field in ("mount", "access"):
        if getattr(parameter, field) is not None:
            written = "opts" if field == "access" else field
            report.error(f"`{written}` is for paths; `{parameter.name}` is a {parameter.type}", *key, written)
    if parameter.pattern is not None:
        try:
            re.compile(parameter.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            report.error(f"`pattern` is no regular expression: {error}", *key, "pattern")
            return
    values = [(("default",), parameter.default)] if parameter.default is not None else []
    listed = [
        (("choices", report.item((*key, "choices"), index)), value) for index, value in enumerate(parameter.choices)
    ]
    limits = [((field,), getattr(parameter, field)) for field in ("minimum", "maximum")]
    if unbounded := [(place, value) for place, value in (*values, *listed, *limits) if _is_no_amount(value)]:
        place, value = unbounded[0]
        report.error(f"`{place[0]}` of `{parameter.name}` must be a finite number, not {value}", *key, *place)
        return
    for place, value in [*values, *listed]:
        if not isinstance(value, fits) or (isinstance(value, bool) and parameter.type != "boolean"):
            what = "the default" if place == ("default",) else "a choice"
            wanted, hint = _WORDS[parameter.type or ""]
            shown = report.text(value, *key, *place)
            message = f"{what} of `{parameter.name}` must be {wanted}, not {named(value)}"
            report.error(message, *key, *place, hint=hint.format(shown))
        elif place == ("default",) and (broken := violated(parameter, value)):
            report.error(f"the default of `{parameter.name}` {broken}", *key, *place)


def _is_no_amount(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


_WORDS = {
    "string": ("text", 'quote it, as "{}"'),
    "integer": ("a whole number", "write a number such as 3, without quotes"),
    "float": ("a number", "write a number such as 0.5, without quotes"),
    "boolean": ("true or false", "write `true` or `false`, without quotes"),
}
"""What a scalar of a type is called, and how it is written."""


def _normal(place: str) -> str:
    return "/" + os.path.normpath(place).lstrip("/")


def mount_place(report: Report, place: str, *key: str | int, example: str = "/data/images") -> None:
    """Judge a place in the container that the cube chose itself."""
    normal = _normal(place)
    if not os.path.isabs(place) or ".." in place.split("/"):
        report.error(f"`{place}` is no absolute path in the container", *key, hint=f"mount: {example}")
    elif "\0" in place or any(letter < " " for letter in place):
        report.error("a place in the container cannot hold a control character", *key, hint=f"mount: {example}")
    elif normal in _RESERVED or normal.startswith(("/proc/", "/sys/", "/dev/", SOURCE, "/mlcube_io")):
        report.error(f"`{place}` belongs to the container itself", *key, hint=f"choose another place, as {example}")


def no_clashes(report: Report, task: str, parameters: tuple[Parameter, ...], secrets: tuple[Secret, ...]) -> None:
    """Nothing shares a place in the container; parameters should share neither a name nor a variable.

    Something may be mounted below another parameter's place.
    """
    names: set[str] = set()
    variables: dict[str, str] = {}
    mounts: dict[str, str] = {}
    for secret in secrets:
        if secret.mount:
            place = _normal(secret.mount)
            if place in mounts:
                message = f"secrets {mounts[place]} and `{secret.name}` are mounted at the same place"
                hint = "give one of them another `mount`"
                report.error(message, "tasks", task, "secrets", secret.name, "mount", hint=hint)
            mounts.setdefault(place, f"`{secret.name}`")
    mounts = {place: f"secret {name}" for place, name in mounts.items()}
    for parameter in parameters:
        side = f"{parameter.direction}s"
        key = ("tasks", task, "parameters", side, parameter.name)
        if parameter.name in names:
            message = f"`{parameter.name}` is an input and an output; the task gets the argument twice"
            report.warning(message, *key, hint="give them different names")
        names.add(parameter.name)
        variable = parameter.variable
        if WORD.fullmatch(parameter.name) and variables.setdefault(variable, parameter.name) != parameter.name:
            message = f"`{variables[variable]}` and `{parameter.name}` are the same variable, `{variable}`"
            hint = "give one of them another name: the task's environment holds only the second"
            report.warning(message, *key, hint=hint, of_key=True)
        if parameter.mount and parameter.mount in mounts:
            message = f"{mounts[parameter.mount]} and `{parameter.name}` are mounted at the same place"
            report.error(message, *key, "mount", hint="give one of them another `mount`")
        elif parameter.mount:
            mounts[parameter.mount] = f"`{parameter.name}`"


def violated(parameter: Parameter, value: Any) -> str | None:
    """Which constraint of a scalar a value breaks, as the end of a sentence."""
    if parameter.choices and value not in parameter.choices:
        return f"must be one of {', '.join(f'`{choice}`' for choice in parameter.choices)}, not `{value}`"
    number = isinstance(value, int | float)  # limits of a text are told elsewhere
    if parameter.minimum is not None and number and value < parameter.minimum:
        return f"must be {parameter.minimum} or more, not {value}"
    if parameter.maximum is not None and number and value > parameter.maximum:
        return f"must be {parameter.maximum} or less, not {value}"
    if parameter.pattern is not None and not re.fullmatch(parameter.pattern, str(value)):
        return f"must match `{parameter.pattern}`, which `{value}` does not"
    return None
