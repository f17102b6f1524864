"""A task bound to arguments, a workspace and needs: from a Cube to an Invocation."""

import math
import os
import os.path
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from mlcube.cube import SOURCE, Cube, Parameter, PythonEnvironment, RawNeeds, Resources, Secret, Task
from mlcube.errors import Problem, Refused, UsageError, did_you_mean
from mlcube.invocation import Invocation, Word
from mlcube.needs import Needs, flags, network, user
from mlcube.paths import Paths
from mlcube.reading.parameters import violated
from mlcube.workspace import is_text, locate, source_digest

__all__ = ["bind", "check_arguments", "generated_image"]


def check_arguments(cube: Cube, tasks: Sequence[str], arguments: Mapping[str, str]) -> None:
    """Every name must be a parameter of one of the tasks.

    Raises UsageError with a suggestion.
    """
    for task in tasks:
        _task(cube, task)
    known = [parameter.name for task in tasks for parameter in cube.tasks[task].parameters]
    for name in arguments:
        if name not in known:
            of = (
                f"task `{tasks[0]}` has"
                if len(tasks) == 1
                else f"tasks {', '.join(f'`{task}`' for task in tasks)} have"
            )
            hint = did_you_mean(name, list(dict.fromkeys(known)))
            raise UsageError(f"{of} no parameter `{name}`", hint=hint)


def bind(
    cube: Cube,
    task: str,
    *,
    arguments: Mapping[str, str] | None = None,
    workspace: str | None = None,
    needs: Needs | None = None,
    run_id: str,
    scratch: str,
    produced: Mapping[str, Literal["file", "directory"]] | None = None,
) -> Invocation:
    """One task of a cube as an invocation.

    `produced` holds paths that tasks before this one will have written, with what they will be.

    Raises UsageError for names and values, MissingInput for what is not there, Refused for what opens the host
    without the user's consent.
    """
    check_arguments(cube, [task], {})
    binding = _Binding(cube, cube.tasks[task], arguments or {}, workspace, needs or Needs(), produced or {})
    invocation = binding.invocation(run_id, scratch)
    return msgspec.structs.replace(invocation, digest=digest(invocation, cube))


def _task(cube: Cube, name: str) -> Task:
    if name not in cube.tasks:
        raise UsageError(f"the cube has no task `{name}`", hint=did_you_mean(name, list(cube.tasks)))
    return cube.tasks[name]


def digest(invocation: Invocation, cube: Cube) -> str:
    """`sha256:...` of everything that decides what the task does; the same on every machine and platform."""
    import hashlib

    content = invocation.as_json()
    content["mounts"] = [
        {"source": _neutral(mount.source, invocation, cube), "target": mount.target, "access": mount.access}
        for mount in invocation.mounts
    ]
    content["source"] = invocation.source_digest
    content["requirements"] = invocation.python and invocation.python.requirements
    content["raw_arguments"] = invocation.raw_arguments
    return "sha256:" + hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def _neutral(path: str, invocation: Invocation, cube: Cube) -> str:
    for name, root in (("workspace", invocation.workspace), ("cube", cube.root)):
        if path == root or path.startswith(root.rstrip("/") + "/"):
            return f"{name}:{os.path.relpath(path, root)}"
    return path


def generated_image(cube: str, python: PythonEnvironment, code_digest: str) -> str:
    """The name of the image that is made of a `python:` section: the same content, the same name."""
    import hashlib

    base = python.image or python.version
    key = hashlib.sha256(f"{base}\0{python.requirements}\0{code_digest}".encode()).hexdigest()
    name = re.sub(r"[^a-z0-9]+", "-", cube.lower()).strip("-") or "cube"
    return f"cube/{name}:{key[:12]}"


class _Binding:
    """The state of one binding."""

    def __init__(
        self,
        cube: Cube,
        task: Task,
        arguments: Mapping[str, str],
        workspace: str | None,
        needs: Needs,
        produced: Mapping[str, Literal["file", "directory"]],
    ) -> None:
        self.cube, self.task, self.given, self.needs = cube, task, arguments, needs
        self.paths = Paths(cube, task, arguments, locate(cube, workspace), produced, needs.mount)
        self.words: list[Word] = []
        self.environment: dict[str, Word] = {}

    def invocation(self, run_id: str, scratch: str) -> Invocation:
        cube, task = self.cube, self.task
        raw, resources = self.resources()
        self.consent(raw)
        for parameter in task.parameters:
            self.parameter(parameter)
        _refuse(self.paths.refused)
        python = cube.python
        code_digest = source_digest(python.source, python.excluded) if python else None
        image = cube.image.reference if cube.image else None
        if python is not None and code_digest is not None:
            image = generated_image(cube.name, python, code_digest)
        secrets = _joined(raw.secrets, task.secrets)
        for source, target, access in raw.mounts:
            self.paths.mount(source, target, access)
        return Invocation(
            cube=cube.name,
            task=task.name,
            run_id=run_id,
            workspace=self.paths.workspace,
            root=cube.root,
            scratch=scratch,
            image=image,
            recipe=cube.image.recipe if cube.image else None,
            strategy=cube.image.strategy if cube.image else "auto",
            python=python,
            source_digest=code_digest,
            singularity=cube.singularity,
            entrypoint=task.entrypoint or (python.entrypoint if python else ()),
            arguments=self.arguments(),
            mounts=self.paths.distinct_mounts(),
            parameters=tuple(self.paths.bound),
            copies=tuple(dict.fromkeys(self.paths.copies)),
            environment=self.whole_environment(raw, secrets),
            directory=SOURCE if python else None,
            resources=resources,
            network=network(self.needs) or task.network or raw.network,
            user=user(self.needs),
            security=self.needs.security,
            secrets=secrets,
            raw_arguments=raw.raw_arguments,
            warnings=tuple(self.paths.warnings),
        )

    def arguments(self) -> tuple[Word, ...]:
        if self.task.command is not None:
            return tuple(Word(word) for word in self.task.command)
        first = () if self.task.entrypoint else (Word(self.task.name),)
        return (*first, *self.words)

    def whole_environment(self, raw: RawNeeds, secrets: tuple[Secret, ...]) -> dict[str, Word]:
        declared = {**raw.environment, **self.task.environment}
        files = {f"CUBE_SECRET_{secret.name}": Word("", secret.mount) for secret in secrets if secret.mount}
        python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"} if self.cube.python else {}
        return {
            **{key: Word(value) for key, value in {**python, **declared}.items()},
            "CUBE_NAME": Word(self.cube.name),
            "CUBE_TASK": Word(self.task.name),
            **self.environment,
            **files,
        }

    # Needs

    def resources(self) -> tuple[RawNeeds, Resources]:
        """The raw arguments that apply, and the resources: raw < cube file < command line."""
        asked = flags(self.needs)
        wanted = asked.get("gpus", self.task.resources.gpus)
        raw = self.cube.gpu_needs if wanted not in (None, 0) else self.cube.cpu_needs
        layers = (msgspec.structs.asdict(raw.resources), msgspec.structs.asdict(self.task.resources), asked)
        if not asked.keys().isdisjoint(("cpus", "cpu_set")):  # the user's word on processors is the whole of it
            for layer in layers[:2]:
                layer.update(cpus=None, cpu_set=None)
        merged = {key: value for layer in layers for key, value in layer.items() if value is not None}
        if merged.get("gpus") == 0:
            del merged["gpus"]
        return raw, Resources(**merged)

    def consent(self, raw: RawNeeds) -> None:
        image = self.cube.image.refused if self.cube.image else ()
        hint = "run with --trust if you trust this cube with it, or say the need in neutral words"
        refused = (*raw.refused, *self.task.refused, *image)
        _refuse([Problem(message=each.message, position=each.position, hint=hint) for each in refused])

    # Parameters

    def parameter(self, parameter: Parameter) -> None:
        word = self.scalar(parameter) if parameter.scalar else self.paths.bind(parameter)
        if word is None:
            return
        self.words.append(Word(f"--{parameter.name}={word.text}", word.path))
        self.environment[parameter.variable] = word

    def scalar(self, parameter: Parameter) -> Word | None:
        given = self.given.get(parameter.name)
        value: object = parameter.default
        if given is not None:
            if not is_text(given):
                raise UsageError(f"the value of `{parameter.name}` is no UTF-8 text")
            value = _read_scalar(parameter, given)
        if value is None:
            if parameter.optional:
                return None
            hint = f"{parameter.name}=VALUE on the command line"
            raise UsageError(f"task `{self.task.name}` needs a value for `{parameter.name}`", hint=hint)
        if given is not None and (broken := violated(parameter, value)):
            raise UsageError(f"`{parameter.name}` {broken}")
        return Word(str(value).lower() if isinstance(value, bool) else str(value))


def _refuse(problems: list[Problem]) -> None:
    """All that needs the user's consent, at once."""
    if problems:
        error = Refused(problems[0].message, hint=problems[0].hint)
        error.problems = tuple(problems)
        raise error


def _joined(first: tuple[Secret, ...], second: tuple[Secret, ...]) -> tuple[Secret, ...]:
    named = {secret.name: secret for secret in (*first, *second)}
    return tuple(named.values())


def _read_scalar(parameter: Parameter, text: str) -> str | int | float | bool:
    try:
        match parameter.type:
            case "integer" if re.fullmatch(r"[+-]?[0-9]{1,4000}", text):
                return int(text)
            case "float" if "_" not in text and math.isfinite(float(text)):
                return float(text)
            case "integer" | "float":
                raise ValueError(text)
            case "boolean":
                return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
            case _:
                return text
    except (ValueError, KeyError):
        expected = {"integer": "a whole number", "float": "a number", "boolean": "`true` or `false`"}[
            parameter.type or ""
        ]
        example = {"integer": "3", "float": "0.5", "boolean": "true"}[parameter.type or ""]
        hint = f"{parameter.name}={example}"
        raise UsageError(f"`{parameter.name}` needs {expected}, not `{text}`", hint=hint) from None
