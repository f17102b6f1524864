"""A batch job on several nodes: the inner runner's plan is performed by `srun` on each of them, once."""

import math
import os.path
import shlex
from collections.abc import Iterator

import msgspec

from mlcube.invocation import Invocation
from mlcube.job import read_secrets
from mlcube.plan import Diagnosis, Plan, command
from mlcube.script import embedded
from mlcube_runners._ranks import rank_environment

__all__ = ["diagnoses_of_ranks", "files_of_ranks", "for_ranks"]

_TASK = """\
# Starts `start` on every node, and ends with the status of the rank that failed first.
cd {directory}
address=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
[ -n "$address" ] || {{ echo "error: Slurm does not name the job's nodes" >&2; exit 69; }}
# Two jobs may have the same first node; the numbers are below those that systems give out themselves.
port=$((12000 + SLURM_JOB_ID % 20000))
mkdir -p ranks
sed -e "s/{address}/$address/g" -e "s/{port}/$port/g" rank >ranks/rank
stopped= insist=
# Told to end itself, srun would end the ranks at once.
setsid {srun} sh {directory}/start &
ranks=$!
stop() {{
  scancel --signal=TERM "$SLURM_JOB_ID" || :
  [ -z "$stopped" ] || return 0
  stopped=yes
  # Before whoever asked loses patience: Slurm itself has more.
  setsid sh -c 'sleep 9 && scancel --signal=KILL "$1.0"' sh "$SLURM_JOB_ID" &
  insist=$!
}}
trap 'stop >/dev/null 2>&1' TERM INT HUP
status=0
wait $ranks || status=$?
while kill -0 $ranks 2>/dev/null; do
  status=0
  wait $ranks || status=$?
done
[ -z "$insist" ] || kill -- "-$insist" 2>/dev/null || :
ls . >/dev/null # so that what another node made here is seen
if [ -s failed/status ]; then
  read -r status rank <failed/status
  [ -n "$stopped" ] || echo "rank $rank of {nodes} ended with status $status, and the others were stopped" >&2
fi
exit "$status"
"""

_START = """\
# One rank. Its script is a file of its own: only here is known which one it is.
cd {directory} || exit 1
rank=$SLURM_PROCID
mkdir -p "ranks/$rank/home" || exit 1
[ ! -d {secrets} ] || ln -s {secrets} "ranks/$rank.secrets" || exit 1
sed "s/{rank}/$rank/g" ranks/rank >"ranks/$rank.task" || exit 1
trap : TERM INT HUP
cd /
status=0
sh -eu {directory}/ranks/"$rank.task" || status=$?
[ $status -eq 0 ] || {{
  cd {directory} && mkdir failed 2>/dev/null && echo "$status $rank" >failed/new && mv failed/new failed/status
}}
exit $status
"""

_KILL = 'scancel --signal=KILL "$SLURM_JOB_ID.0" 2>/dev/null || :\n'
"""The step that the ranks are: of a whole job Slurm asks first whether it would end, for half a minute."""


def for_ranks(invocation: Invocation, nodes: int, directory: str) -> Invocation:
    """As each rank gets it: what is known only on its node stands for itself, and is put in there."""
    environment = rank_environment(
        nodes, rank=_place(invocation, "rank"), address=_place(invocation, "address"), port=_place(invocation, "port")
    )
    return msgspec.structs.replace(
        invocation,
        scratch=f"{directory}/ranks/{_place(invocation, 'rank')}",
        environment={**invocation.environment, **environment},
    )


def files_of_ranks(
    invocation: Invocation, ranked: Invocation, plan: Plan, directory: str, *, cpus: float | None
) -> dict[str, str]:
    """What lies in the job's directory instead of the task: `plan` is that of `ranked`, which is one of them all."""
    nodes = _world_size(ranked)
    places = {name: _place(invocation, name) for name in ("rank", "address", "port")}
    srun = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--input=none"]
    each = [*srun, "--label", "--wait=0", "--kill-on-bad-exit=1"]
    if cpus:  # newer versions do not take over what sbatch was told
        each.append(f"--cpus-per-task={math.ceil(cpus)}")
    given = {**places, "nodes": nodes, "directory": shlex.quote(directory)}
    secrets = shlex.quote(f"{invocation.scratch}.secrets")
    lines = ["trap : TERM INT HUP", *read_secrets(ranked, directory)]
    if lines[1:]:
        lines.append(_forget(directory, places["rank"], nodes))
    files = {
        "kill": _KILL,
        "task": _TASK.format(**given, srun=shlex.join(each)),
        "start": _START.format(**given, secrets=secrets),
        "rank": "\n".join([*lines, embedded(plan, reasons_in=f"{directory}/ranks/{places['rank']}"), ""]),
    }
    if plan.kill:  # a node that does not answer must not keep the others from ending
        everywhere = shlex.join(["timeout", "-k", "5", "20", *srun, "--overlap", "sh", f"{directory}/kill.rank"])
        files |= {"kill": f"{everywhere}\n{_KILL}", "kill.rank": f"{plan.kill.script()}\n"}
    return files


def diagnoses_of_ranks(inner: Plan, directory: str) -> Iterator[Diagnosis]:
    """What the inner runner found out on any of the nodes."""
    for number, diagnosis in enumerate(inner.diagnoses):
        probe = command("sh", "-c", 'cat "$1"/ranks/*/reason."$2"', "sh", directory, str(number))
        yield msgspec.structs.replace(diagnosis, probe=probe)


def _forget(directory: str, rank: str, nodes: str) -> str:
    """Whoever reads the secrets last removes their files."""
    ranks, secrets = shlex.quote(os.path.join(directory, "ranks")), shlex.quote(os.path.join(directory, "secrets"))
    return f": >{ranks}/{rank}.read; [ \"$(ls {ranks} | grep -c '[.]read$')\" -lt {nodes} ] || rm -rf {secrets}"


def _place(invocation: Invocation, name: str) -> str:
    """What stands for a value; nobody else knows the run's number when arguments are written."""
    return f"cube-{name}.{invocation.run_id}"


def _world_size(ranked: Invocation) -> str:
    return str(ranked.environment["CUBE_WORLD_SIZE"])
