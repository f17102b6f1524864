"""Makes of a task that lives with the process that started it one that outlives it."""

import os
import shlex

import msgspec

from mlcube.invocation import Invocation
from mlcube.job import JOB, task_script, write_secrets
from mlcube.plan import Command, Job, Plan, Step, WriteFile, command
from mlcube.record import BEGUN

__all__ = ["apart", "ended", "lasting"]


def lasting(plan: Plan, invocation: Invocation) -> Plan:
    """The plan of a run that somebody else can bring to its end."""
    plan = apart(plan, invocation)
    begun = WriteFile(path=f"{os.path.dirname(invocation.scratch)}/{BEGUN}", text="")
    return msgspec.structs.replace(plan, steps=(*plan.steps, begun))


def apart(plan: Plan, invocation: Invocation) -> Plan:
    """The same with a task that is a job: on this host, if its runner has made none of it.

    The job has a directory beside the run's scratch, with its script, its output and its status.
    """
    if not isinstance(plan.task, Command):
        return plan
    directory = f"{os.path.dirname(invocation.scratch)}/job"
    task = Plan(task=plan.task)
    secrets = [step for step in write_secrets(invocation, directory) if step.path.startswith(f"{directory}/")]
    laid_out: list[Step] = [command("mkdir", "-p", "-m", "700", "--", directory)]
    if secrets:
        laid_out += [command("mkdir", "-p", "-m", "700", "--", f"{directory}/secrets"), *secrets]
    laid_out.append(WriteFile(path=f"{directory}/job", text=JOB))
    laid_out.append(WriteFile(path=f"{directory}/task", text=task_script(task, directory, invocation)))
    for name, ending in (("stop", plan.stop), ("kill", plan.kill)):
        if ending:
            laid_out.append(WriteFile(path=f"{directory}/{name}", text=ending.script()))
    job = Job(
        start=Command(argv=("sh", f"{directory}/job", "start"), quiet=True, failure="the task could not be started"),
        follow=command("sh", f"{directory}/job", "follow"),
        status=command("sh", f"{directory}/job", "status"),
        directory=directory,
    )
    return msgspec.structs.replace(
        plan,
        steps=(*plan.steps, *laid_out),
        task=job,
        always=(*plan.always, command("rm", "-rf", "--", f"{directory}/secrets")),
        stop=command("sh", f"{directory}/job", "stop", quiet=True),
        kill=command("sh", f"{directory}/job", "kill", quiet=True),
    )


def ended(status: int) -> Command:
    """Stands for a task whose status is known."""
    return command("sh", "-c", f"exit {shlex.quote(str(status))}")
