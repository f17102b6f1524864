"""`cube run`: tasks of a cube, one after the other, on a platform."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal

import msgspec

from mlcube.binding import check_arguments
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
    seconds,
)
from mlcube.cli.bundle_running import keeping, provided
from mlcube.cli.conditions import check_available, check_data, check_image, preferred
from mlcube.cli.declared import option
from mlcube.cli.dry_run import print_plans
from mlcube.cli.leaving import can_be_left, leavable
from mlcube.cli.naming import cube_of, split_words
from mlcube.cli.request import Request, attempts_of, secrets_of
from mlcube.cli.settling import settle_killed
from mlcube.errors import CubeError, UsageError, escaped
from mlcube.invocation import Invocation
from mlcube.needs import Needs
from mlcube.platforms import Choice
from mlcube.record import Attempt, Record, RunDirectory

EXAMPLE = """\b
Examples:
  cube run --mlcube examples/hello_world --task hello,bye
  cube run --task train --platform docker --gpus all epochs=5
  cube run --task train --dry-run > train.sh
  cube run oci://registry.example.org/digits:1.2 --task train
"""

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
    cube, warnings, _ = named.admitted(of_cube, trust=trust)
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
        preferred=preferred(named),
    )
    invocations = request.invocations(dry_run)
    wait_seconds, attempts = seconds("--wait", wait), attempts_of(retries, detach)
    console.warnings(tuple(dict.fromkeys(warning for each in invocations for warning in each.warnings)))
    if dry_run:
        choice = request.choice(*invocations, rehearsal=True)
        named.check_made(invocations[0], choice)
        return print_plans(cube, invocations, choice, as_json, secret)
    values = secrets_of(request, invocations, secret)
    choice = request.choice(*invocations)
    named.check_made(invocations[0], choice)
    check_available(choice, invocations[0])
    check_image(named, choice, invocations[0])
    if detach:
        return _detach(request, invocations, choice, values, wait_seconds, as_json, keeping(named))
    if can_be_left():

        def perform(begun: Callable[[str], None]) -> int:
            with keeping(named):
                return _run(request, invocations[0], choice, values, wait_seconds, attempts, as_json, begun)

        return leavable(perform)
    return _run(request, invocations[0], choice, values, wait_seconds, attempts, as_json)


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
    kept: AbstractContextManager[None],
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

    def perform(left: Callable[[], None]) -> int:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        wanted = {secret.name: values[secret.name] for secret in invocation.secrets if secret.name in values}
        with kept:
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
                facts=choice.host,
            )
        return record.exit_status or 0

    def begun() -> None:
        ways = f"cube logs -f {run.id}, cube wait {run.id}, cube cancel {run.id}"
        console.note(f"it goes on without this terminal: {ways}")
        if as_json:
            console.document({"run": run.id})
        else:
            console.result(run.id)

    console.note(f"running task {invocation.task} on {choice.platform.name}")
    return in_background(run, perform, begun)


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
