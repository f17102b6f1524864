"""`cube run`: tasks of a cube, one after the other, on a platform."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import msgspec

from mlcube.binding import bind, check_arguments
from mlcube.cli import console
from mlcube.cli.arguments import (
    Json,
    Locked,
    MlcubePath,
    Offline,
    Overrides,
    PlatformName,
    TaskNames,
    Trust,
    Words,
    Workspace,
    chosen_tasks,
    overrides,
    parameters,
    secrets,
)
from mlcube.cli.bundle_running import provided
from mlcube.cli.conditions import check_available, check_data, check_image
from mlcube.cli.declared import option
from mlcube.cli.dry_run import print_plans
from mlcube.cli.leaving import can_be_left, leavable
from mlcube.cli.naming import cube_of, read_named, split_words
from mlcube.cli.settling import settle_killed
from mlcube.cli.trusting import check_allowed, check_covered
from mlcube.cube import Cube
from mlcube.errors import CubeError, MissingInput, Problem, UsageError, escaped
from mlcube.invocation import Invocation
from mlcube.needs import Needs
from mlcube.platforms import Choice, choose
from mlcube.record import Attempt, Record, RunDirectory, new_id
from mlcube.settings import read_settings

EXAMPLE = """\b
Examples:
  cube run --mlcube examples/hello_world --task hello,bye
  cube run --task train --platform docker --gpus all epochs=5
  cube run --task train --dry-run > train.sh
  cube run oci://registry.example.org/digits:1.2 --task train
"""

_MOST_RETRIES = 1000

Gpus = Annotated[str | None, option("--gpus", metavar="GPUS", help="how many, `all`, or device=0,1")]
Memory = Annotated[str | None, option("--memory", metavar="SIZE", help="limit, as 8GiB")]
Cpu = Annotated[str | None, option("--cpu", "--cpus", metavar="CPUS", help="how many, or which, as 0-3")]
Shared = Annotated[str | None, option("--shared-memory", metavar="SIZE", help="size of /dev/shm, as 2GiB")]
Network = Annotated[str | None, option("--network", metavar="NETWORK", help="none, default, host, or a name")]
User = Annotated[str | None, option("--user", metavar="caller|image", help="whom the task runs as")]
Timeout = Annotated[str | None, option("--timeout", metavar="TIME", help="when to stop it, as 90s or 2h30m")]
Security = Annotated[list[str] | None, option("--security", metavar="OPTION", help="the engine's own option")]
Mount = Annotated[Literal["ro", "rw"] | None, option("--mount", metavar="ro|rw", help="how inputs are mounted")]
Secret = Annotated[
    list[str] | None,
    option("--secret", metavar="NAME=FILE", help="where a secret lies; else the variable of its name"),
]
Wait = Annotated[str | None, option("--wait", metavar="TIME", help="wait that long for outputs in use, as 10m")]
Retries = Annotated[str | None, option("--retries", metavar="N", help="how often a task that fails is run again")]
Detach = Annotated[bool, option("--detach", help="print the run's id and leave it to go on; see `cube wait`")]
DryRun = Annotated[bool, option("--dry-run", help="print the plan as a script (or JSON) and run nothing")]


def command(
    words: Words = None,
    mlcube: MlcubePath = ".",
    task: TaskNames = None,
    platform: PlatformName = None,
    workspace: Workspace = None,
    override: Overrides = None,
    gpus: Gpus = None,
    memory: Memory = None,
    cpu: Cpu = None,
    shared_memory: Shared = None,
    network: Network = None,
    user: User = None,
    timeout: Timeout = None,
    security: Security = None,
    mount: Mount = None,
    secret: Secret = None,
    wait: Wait = None,
    retries: Retries = None,
    detach: Detach = False,
    offline: Offline = False,
    locked: Locked = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    trust: Trust = False,
) -> int:
    """Run tasks of a cube. The exit status is that of the task that failed, or 0."""
    word, words = split_words(words, mlcube)
    named = cube_of(mlcube, word, workspace=workspace, locked=locked, offline=offline)
    named, platform = provided(named, platform, rehearsal=dry_run)
    workspace = named.workspace
    of_cube, of_runner = overrides(override, platform)
    check_allowed(named, of_cube)
    cube, warnings = read_named(named, of_cube, trust=trust)
    check_covered(named, cube)
    console.warnings(warnings)
    names = chosen_tasks(task, tuple(cube.tasks), cube.name)
    arguments = parameters(words, tuple(cube.tasks))
    check_arguments(cube, names, arguments)
    check_data(named, cube, names)
    needs = Needs(
        gpus=gpus,
        memory=memory,
        cpu=cpu,
        network=network,
        user=user,
        timeout=timeout,
        shared_memory=shared_memory,
        security=tuple(security or ()),
        mount=mount,
    )
    request = Request(
        cube=cube,
        tasks=names,
        arguments=arguments,
        workspace=workspace,
        needs=needs,
        platform=platform,
        options=of_runner,
    )
    invocations = request.invocations(dry_run)
    wait_seconds, attempts = _seconds(wait), _attempts(retries, detach)
    console.warnings(tuple(dict.fromkeys(warning for each in invocations for warning in each.warnings)))
    if dry_run:
        return print_plans(cube, invocations, request.choice(*invocations, rehearsal=True), as_json, secret)
    values = _secrets(request, invocations, secret)
    choice = request.choice(*invocations)
    check_available(choice, invocations[0])
    check_image(named, choice, invocations[0])
    if detach:
        return _detach(request, invocations, choice, values, wait_seconds, as_json)
    if can_be_left():
        return leavable(
            lambda begun: _run(request, invocations[0], choice, values, wait_seconds, attempts, as_json, begun)
        )
    return _run(request, invocations[0], choice, values, wait_seconds, attempts, as_json)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    cube: Cube
    tasks: tuple[str, ...]
    arguments: Mapping[str, str]
    workspace: str | None
    needs: Needs
    platform: str | None
    options: Mapping[str, Any]

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
        choice = choose(self.platform, settings, invocations, ask, self.options, rehearsal=rehearsal)
        if choice.unusable:
            console.warnings(
                tuple(msgspec.structs.replace(each, severity="warning") for each in choice.unusable.problems)
            )
        if choice.reason:
            console.note(f"chose platform {choice.platform.name}: {choice.reason}")
        return choice


def _run(
    request: Request,
    first: Invocation,
    choice: Choice,
    values: Mapping[str, str],
    wait_seconds: float | None,
    attempts: int,
    as_json: bool,
    begun: Callable[[str], None] | None = None,
) -> int:
    from mlcube.running import run_task

    records: list[Record] = []
    found: dict[str, Any] = {"runs": records}
    settle_killed()
    try:
        for name in request.tasks:
            attempt = Attempt(number=1, most=attempts) if attempts > 1 else None
            while True:
                # bound again: tasks before it have changed the workspace
                invocation = request.invocation(name) if records else first
                console.note(_beginning(name, choice, attempt, begun))
                if begun:
                    begun(invocation.run_id)
                record = run_task(
                    invocation,
                    choice.platform,
                    request.cube,
                    secrets={each.name: values[each.name] for each in invocation.secrets if each.name in values},
                    wait_seconds=wait_seconds,
                    attempt=attempt,
                    stdout=2 if as_json else 1,
                    stderr=2,
                    report=console.note,
                )
                records.append(record)
                status = _summarize(record, invocation)
                if not status or attempt is None or attempt.number == attempt.most:
                    break
                attempt = msgspec.structs.replace(attempt, number=attempt.number + 1, previous=record.id)
            if status:
                return status
    except CubeError as error:
        found["error"] = console.told(error)
        status = console.failure(error)
        if run_id := getattr(error, "run_id", None):
            console.note(f"what happened: cube runs show {run_id}")
        return status
    finally:
        if as_json:
            console.document(found)
    return 0


def _beginning(task: str, choice: Choice, attempt: Attempt | None, begun: Callable[[str], None] | None) -> str:
    counted = f", attempt {attempt.number} of {attempt.most}" if attempt else ""
    key = r" (Ctrl-\ leaves it to go on)" if begun else ""
    return f"running task {task} on {choice.platform.name}{counted}{key}"


def _detach(
    request: Request,
    invocations: Sequence[Invocation],
    choice: Choice,
    values: Mapping[str, str],
    wait_seconds: float | None,
    as_json: bool,
) -> int:
    """Leave the run to a process in the background."""
    from mlcube.cli.attending import in_background
    from mlcube.running import run_task

    if len(request.tasks) > 1:
        raise UsageError(
            f"`--detach` leaves one task, and these are {len(request.tasks)}", hint=f"--task {request.tasks[0]}"
        )
    (invocation,) = invocations
    run = RunDirectory(invocation.run_id)
    settle_killed()

    def perform(left: Callable[[], None]) -> int:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        wanted = {secret.name: values[secret.name] for secret in invocation.secrets if secret.name in values}
        record = run_task(
            invocation,
            choice.platform,
            request.cube,
            secrets=wanted,
            wait_seconds=wait_seconds,
            stdout=nowhere,
            stderr=nowhere,
            report=console.note,
            left=left,
        )
        return record.exit_status or 0

    console.note(f"running task {invocation.task} on {choice.platform.name}")
    if status := in_background(run, perform):
        return status
    console.note(f"it goes on without this terminal: cube logs -f {run.id}, cube wait {run.id}, cube cancel {run.id}")
    if as_json:
        console.document({"run": run.id})
    else:
        console.result(run.id)
    return 0


def _summarize(record: Record, invocation: Invocation) -> int:
    seconds = f" after {record.seconds.run:.1f} s" if record.seconds.run is not None else ""
    if record.exit_status:
        failed = "failed" if seconds else "did not run, and ended"
        error = CubeError(
            f"task `{invocation.task}` {failed} with status {record.exit_status}{seconds}",
            hint=f"what it printed: cube runs log {record.id}",
        )
        console.failure(error)
        return record.exit_status
    console.note(f"task {invocation.task} succeeded{seconds}, run {record.id}")
    for output in invocation.outputs:
        console.note(escaped(f"  {output.name}: {output.path}", lines=False))
    return 0


def _secrets(request: Request, invocations: Sequence[Invocation], files: list[str] | None) -> dict[str, str]:
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


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from mlcube.amounts import duration

    try:
        return duration(text)
    except ValueError as error:
        raise UsageError(f"`--wait` takes {error}") from None


def _attempts(retries: str | None, detach: bool) -> int:
    """How often a task may be started: once, and as often again as `--retries` says."""
    if retries is None:
        return 1
    if not retries.isdecimal() or int(retries) > _MOST_RETRIES:
        raise UsageError(f"`--retries` takes a number from 0 to {_MOST_RETRIES}, not `{retries}`", hint="--retries 2")
    if detach and int(retries):
        hint = "leave out `--detach` and press Ctrl-\\ once it runs, or: nohup cube run ... &"
        raise UsageError("`--retries` needs somebody who sees to the run, and `--detach` leaves it", hint=hint)
    return 1 + int(retries)
