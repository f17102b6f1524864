"""`cube collect`: what a run has left, if its task has ended."""

from mlcube.asking import ask
from mlcube.cli import console
from mlcube.cli.arguments import Json
from mlcube.cli.wait import Id, Secret, ending, waited
from mlcube.errors import Busy
from mlcube.plan import Job
from mlcube.record import Plans, RunDirectory, find_id

EXAMPLE = """\b
Example:
  cube collect last
"""


def command(run_id: Id = "last", secret: Secret = None, as_json: Json = False) -> int:
    """Bring back what a run has left, without waiting for its task; exit status 75 while that runs."""
    run = RunDirectory(find_id(run_id))
    found = run.record()
    if found and not found.finished and (run.live() or run.lasts()) and not _task_has_ended(run):
        raise Busy(f"the task of run {run.id} has not ended", hint=f"cube wait {run.id}")
    found = waited(run, None, secret)
    if as_json:
        console.document(found)
    return ending(found)


def _task_has_ended(run: RunDirectory) -> bool:
    """As far as is known; where the task runs is asked once."""
    if run.read("ended.json", int) is not None:
        return True
    plans = run.read("plan.json", Plans)
    task = plans.run.task if plans and run.lasts() else None
    if not isinstance(task, Job):
        return False
    return bool(ask(task.status.argv, environment=task.status.environment).output.strip())
