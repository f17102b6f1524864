"""What is otherwise where a task has several pods, one for each of its ranks: an indexed job, and names for them."""

import re

from mlcube.invocation import Invocation
from mlcube.runner import Host
from mlcube_runners._kubernetes_claim import within_claim
from mlcube_runners._staging import Staging

__all__ = ["FINISHED", "PORT", "RANKS", "ranks_problem"]

PORT = "29500"
"""Where the ranks meet, as torch has it: every pod has an address of its own."""

_SINCE = (1, 24)
"""The version from which on every cluster has indexed jobs."""

FINISHED = """\
{{range .items}}{{$time := "-"}}{{$code := "-"}}{{$why := "-"}}\
{{range .status.containerStatuses}}{{with .state.terminated}}{{$time = .finishedAt}}{{$code = .exitCode}}\
{{with .reason}}{{$why = .}}{{end}}{{end}}{{end}}\
{{with .status.reason}}{{$why = .}}{{end}}{{$time}} {{$code}} {{$why}} {{.status.phase}} {{.metadata.name}}
{{end}}"""
"""One line for each pod: when its task ended, its status, why, its phase, its name."""

RANKS = r"""
# Several pods, of which nothing is fetched: what they write lies on the claim.

has_begun() { # has_begun CONTAINER: in every pod, or one has failed already
  awk -v name="$1" -v ranks="$ranks" '
    $1 == name && ($2 == "running" || $2 == "terminated") { begun++ }
    $1 == name && $2 == "terminated" && $4 != 0 { begun = ranks }
    END { exit begun < ranks }' look
}

# The pods in the order of their ranks, which their names tell: a number and the name.
name_pods() {
  again cluster get pods --selector="job-name=$job" --output='go-template={{range .items}}{{.metadata.name}}
{{end}}' >pods.new || return
  awk -v job="$job-" '{ print substr($0, length(job) + 1) + 0, $0 }' pods.new | sort -n >pods
}

ended() {
  if [ -e status ]; then cat status; return; fi
  cluster get pods --selector="job-name=$job" --output="go-template=$finished" >finished.$$ 2>/dev/null || {
    rm -f finished.$$
    return 1
  }
  sort finished.$$ >finished
  rm -f finished.$$
  first=$(awk '$2 != "-" && $2 != 0 || $4 == "Failed" { print; exit }' finished)
  if [ -e stopped ]; then
    ! grep -q ' Running ' finished || return 0
    conclude 143
  elif [ -n "$first" ]; then
    set -- $first
    [ -s failing ] || awk -v pod="$5" '$2 == pod { print $1; exit }' pods >failing 2>/dev/null
    case $3,$2 in
      Completed,* | Error,*) conclude "$2" ;;
      *,-) conclude 137 "$3" ;;
      OOMKilled,* | StartError,* | ContainerCannotRun,*) echo "$3" >state; conclude "$2" ;;
      *) conclude "$2" "$3" ;;
    esac
  elif [ "$(awk '$2 == 0' finished | wc -l)" -ge "$ranks" ]; then
    conclude 0
  elif [ -e started ] && [ "$(wc -l <finished)" -lt "$ranks" ]; then
    conclude 137 Gone
  fi
}

inside() {
  :
}

# Of a job that wants no pods any more the cluster asks those that run to end.
dismiss() {
  : >stopped
  again cluster patch "job/$job" --type=merge --patch='{"spec":{"parallelism":0}}' >/dev/null
}

case $verb in
  start)
    [ ! -e started ] || exit 0
    : >begun
    await task
    name_pods || exit @LOST@
    : >started
    exit
    ;;
  follow) # one rank after the other, and so the same bytes each time; the first one's as they come
    failed='' gone="error: the directory of the task is gone: $(pwd)"
    rm -f unfollowed
    while read -r rank pod; do
      cluster logs --follow --prefix "pod/$pod" --container=task </dev/null 2>complaint.logs ||
        ! unreached complaint.logs || { : >unfollowed; break; }
    done <pods | beyond "$1"
    [ -e job ] || { say "$gone"; exit 137; }
    [ ! -e unfollowed ] || exit @LOST@
    (exit_with_status) || {
      status=$?
      [ ! -s failing ] || [ $status -eq @LOST@ ] ||
        say "rank $(cat failing) of $ranks ended with status $status, and the others were stopped"
      exit $status
    }
    exit
    ;;
  stop)
    [ -e begun ] || exit 0
    dismiss
    # A dozen seconds, then whoever asked must insist.
    waited=0
    until [ -n "$(ended)" ] || [ $waited -ge 12 ]; do
      sleep 1
      waited=$((waited + 1))
    done
    exit
    ;;
  kill)
    [ -e begun ] || exit 0
    dismiss
    again cluster delete pods --selector="job-name=$job" --ignore-not-found --grace-period=0 --force >/dev/null 2>&1
    exit
    ;;
esac
"""
"""Comes before the words of the job's script, and answers some of them itself."""


def ranks_problem(invocation: Invocation, staging: Staging, host: Host) -> tuple[str, str] | None:
    """Why a task cannot start on several nodes of this cluster, and what to do."""
    nodes = invocation.resources.nodes
    if nodes is None:
        return None
    task = f"task `{invocation.task}` starts on {nodes} nodes at once"
    version = str((host.get("kubernetes") or {}).get("version") or "")
    found = re.match(r"v?(\d+)[.](\d+)", version)
    if found and (int(found[1]), int(found[2])) < _SINCE:
        return (
            f"{task}, and this cluster ({version}) lacks indexed jobs, which came with Kubernetes 1.24",
            "use a newer cluster, or a platform of runner `slurm`",
        )
    for here, there in zip(invocation.mounts, staging.invocation.mounts, strict=True):
        if within_claim(there.source) is None:
            return (
                f"{task}, and `{here.source}` is not on a volume that all of them see",
                "set `claim` and `claim_at` of the platform, and keep the workspace below `claim_at`",
            )
    return None
