"""One task of a cube file, understood."""

from typing import Any, Literal

from mlcube.compatibility import MedperfCommand
from mlcube.cube import Parameter, PythonEnvironment, Refusal, Secret, Task
from mlcube.document import CubeFile, ResourcesFile, SecretFile, TaskFile
from mlcube.raw_arguments import VARIABLE
from mlcube.reading.images import entry_words
from mlcube.reading.needs import resources
from mlcube.reading.parameters import WORD, mount_place, no_clashes, parameter
from mlcube.reading.report import Report
from mlcube.source import Key

__all__ = ["understood_task"]


def understood_task(
    report: Report,
    content: CubeFile,
    name: str,
    *,
    command: MedperfCommand | None,
    base: dict[str, Any],
    python: PythonEnvironment | None,
    trust: bool,
) -> Task:
    """A task with everything that the file says of it; problems go to the report."""
    task = content.tasks[name] or TaskFile()
    if not WORD.fullmatch(name.replace(" ", "_")):
        hint = "letters, digits, `_`, `.` and `-`"
        report.error(f"`{name}` cannot be the name of a task", "tasks", name, hint=hint, of_key=True)
    inputs, outputs = _parameters(report, name, task, "inputs"), _parameters(report, name, task, "outputs")
    entrypoint = tuple(command[0]) if command else entry_words(report, task.entrypoint, "tasks", name, "entrypoint")
    told = report.spoiled & {("tasks", name, "entrypoint"), ("python", "entrypoint")}
    if python is not None and not entrypoint and not python.entrypoint and not told:
        hint = "entrypoint: python train.py"
        report.error(f"task `{name}` of a `python:` cube needs an `entrypoint`", "tasks", name, hint=hint)
    secrets = _secrets(report, name, task.secrets)
    no_clashes(report, name, inputs + outputs, secrets)
    offline = content.platform is not None and content.platform.need_internet_access is False
    return Task(
        name=name,
        description=report.text(task.description, "tasks", name, "description"),
        inputs=inputs,
        outputs=outputs,
        entrypoint=entrypoint,
        command=tuple(command[1]) if command else None,
        environment=_environment(report, name, task),
        resources=resources(report, base, task.resources or ResourcesFile(), name),
        network=task.network or ("none" if offline else None),
        refused=() if trust else _refusals(report, name, task),
        secrets=secrets,
    )


def _parameters(report: Report, name: str, task: TaskFile, side: Literal["inputs", "outputs"]) -> tuple[Parameter, ...]:
    written = (getattr(task.parameters, side) if task.parameters else None) or {}
    return tuple(parameter(report, name, side, label, what) for label, what in written.items())


def _refusals(report: Report, name: str, task: TaskFile) -> tuple[Refusal, ...]:
    """What opens the host in neutral words."""
    if task.network != "host":
        return ()
    position = report.where(("tasks", name, "network"), False)
    return (Refusal(message="`network: host` shares the host's network with the task", position=position),)


def _environment(report: Report, task: str, written: TaskFile) -> dict[str, str]:
    result = {}
    for name, value in (written.environment or {}).items():
        key = ("tasks", task, "environment", name)
        if not VARIABLE.fullmatch(name):
            report.error(f"`{name}` is no name of a variable", *key, of_key=True)
        result[name] = report.text(value, *key) or ""
    return result


def _secrets(
    report: Report, task: str, written: "list[str] | dict[str, SecretFile | None] | None"
) -> tuple[Secret, ...]:
    named = written if isinstance(written, dict) else dict.fromkeys(written or [])
    result = []
    for index, (name, given) in enumerate(named.items()):
        listed: Key = ("tasks", task, "secrets")
        key = (*listed, name if isinstance(written, dict) else report.item(listed, index))
        secret = given or SecretFile()
        if not VARIABLE.fullmatch(name):
            hint = "letters, digits and `_`: it is also the name of the variable that holds the value"
            report.error(f"`{name}` cannot be the name of a secret", *key, hint=hint)
        if secret.mount is not None:
            mount_place(report, secret.mount, *key, "mount", example="/run/secrets/key")
        description = report.text(secret.description, *key, "description")
        result.append(Secret(name=name, mount=secret.mount, optional=secret.optional, description=description))
    return tuple(result)
