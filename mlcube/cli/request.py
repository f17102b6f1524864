"""What the command line of `cube run` asks for: tasks bound to a workspace, a platform, secrets, attempts."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from mlcube.binding import bind
from mlcube.cli import console
from mlcube.cli.arguments import secrets
from mlcube.cube import Cube
from mlcube.errors import MissingInput, Problem, UsageError
from mlcube.invocation import Invocation
from mlcube.needs import Needs
from mlcube.platforms import Choice, choose
from mlcube.record import RunDirectory, new_id
from mlcube.settings import read_settings

__all__ = ["Request", "attempts_of", "secrets_of"]

_MOST_RETRIES = 1000


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    cube: Cube
    tasks: tuple[str, ...]
    arguments: Mapping[str, str]
    workspace: str | None
    needs: Needs
    platform: str | None
    options: Mapping[str, Any]
    preferred: Mapping[str, str] = {}
    """Platforms that are asked before others, where none is named, and why."""

    def invocation(self, task: str, before: Sequence[Invocation] = ()) -> Invocation:
        """One task, bound to what the workspace holds now, or will hold after the tasks before it."""
        run_id = new_id()
        return bind(
            self.cube,
            task,
            arguments=self.arguments,
            workspace=self.workspace,
            needs=self.needs,
            run_id=run_id,
            scratch=f"{RunDirectory(run_id).path}/scratch",
            produced={output.path: output.type for each in before for output in each.outputs},
        )

    def invocations(self, rehearsal: bool) -> tuple[Invocation, ...]:
        """The tasks, bound before anything starts.

        What a task will write into a directory is not known before: a task that needs a part of it waits for its turn.
        """
        bound: list[Invocation] = []
        for task in self.tasks:
            try:
                bound.append(self.invocation(task, bound))
            except MissingInput:  # noqa: PERF203 - each task in turn
                if rehearsal or not any(output.type == "directory" for each in bound for output in each.outputs):
                    raise
        return tuple(bound)

    def choice(self, *invocations: Invocation, rehearsal: bool = False) -> Choice:
        """The platform that carries them."""
        from mlcube.host import gather

        settings = read_settings()
        console.warnings(settings.warnings)
        ask = partial(gather, remember=not rehearsal)
        choice = choose(
            self.platform, settings, invocations, ask, self.options, rehearsal=rehearsal, preferred=self.preferred
        )
        if choice.unusable:
            console.warnings(
                tuple(msgspec.structs.replace(each, severity="warning") for each in choice.unusable.problems)
            )
        if choice.reason:
            console.note(f"chose platform {choice.platform.name}: {choice.reason}")
        return choice


def secrets_of(request: Request, invocations: Sequence[Invocation], files: list[str] | None) -> dict[str, str]:
    """The values of the secrets that the tasks ask for."""
    wanted: dict[str, bool] = {}
    asked = [secret for task in request.tasks for secret in request.cube.tasks[task].secrets]
    asked += (secret for invocation in invocations for secret in invocation.secrets)
    for secret in asked:
        wanted[secret.name] = secret.optional and wanted.get(secret.name, True)
    open_names = {secret.name for secret in asked if secret.from_environment}
    withheld = [name for name in wanted if name not in open_names]
    values = secrets(tuple(wanted.items()), files, withheld)
    for name in withheld:
        if name in os.environ and name not in values:
            message = f"the cube's engine arguments ask for your variable `{name}`; it is left out"
            hint = f"--secret {name}=FILE gives it a value, --trust lets the cube have yours"
            console.warnings((Problem(message=message, hint=hint, severity="warning"),))
    if values:
        console.note(f"secrets passed to the task: {', '.join(values)}")
    return values


def attempts_of(retries: str | None, detach: bool) -> int:
    """How often a task may be started: once, and as often again as `--retries` says."""
    if retries is None:
        return 1
    if not retries.isdecimal() or int(retries) > _MOST_RETRIES:
        raise UsageError(f"`--retries` takes a number from 0 to {_MOST_RETRIES}, not `{retries}`", hint="--retries 2")
    if detach and int(retries):
        hint = "leave out `--detach` and press Ctrl-\\ once it runs, or: nohup cube run ... &"
        raise UsageError("`--retries` needs somebody who sees to the run, and `--detach` leaves it", hint=hint)
    return 1 + int(retries)
