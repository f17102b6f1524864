"""A task that outlives whoever started it: a directory with its script, its output and its status."""

import shlex
from collections.abc import Iterable

from mlcube.invocation import Invocation
from mlcube.plan import Plan, SecretText, WriteFile
from mlcube.script import embedded

__all__ = ["JOB", "read_secrets", "secret_files", "task_script", "write_secrets"]

JOB = r"""# Performs the task of this directory: sh job run|start|follow|status|stop|kill
cd "$(dirname "$0")" || exit 1
verb=$1
[ $# -eq 0 ] || shift

ended() {
  printf '%s\n' "$1" >status.new && mv status.new status
}

size() {
  wc -c 2>/dev/null <"$1" || echo 0
}

# What came to a file since it had so many bytes.
print_new() {
  [ "$3" -le "$2" ] || tail -c +$(($2 + 1)) "$1" | head -c $(($3 - $2))
}

# A while that grows with the time that the task already takes: it adds a twentieth, and a second at most.
rest() {
  rounds=$((${rounds:-0} + 1))
  if [ $rounds -le 20 ]; then wait=0.05; elif [ $rounds -le 60 ]; then wait=0.2; else wait=1; fi
  sleep $wait 2>/dev/null || sleep 1
}

# What follows is otherwise where a scheduler starts the task; see the file `scheduler`.

# Whether the task can still end of itself.
alive() {
  kill -0 "$(cat runner 2>/dev/null || echo none)" 2>/dev/null
}

# What is known of a task that ended without a word.
why_gone() {
  echo "error: the task was ended from outside, or its machine was started again" >&2
  ended 137
}

# The status to end with.
verdict() {
  echo "$1"
}

begin() {
  mkdir started 2>/dev/null || return 0
  if command -v setsid >/dev/null; then session=setsid; else session=nohup; fi
  $session sh ./job run </dev/null >/dev/null 2>&1 &
  until [ -e runner ] || [ -e status ]; do rest; done
}

signal_task() {
  [ ! -e process ] || kill -s "$1" -- "-$(cat process)" 2>/dev/null
}

[ ! -f scheduler ] || . ./scheduler

case $verb in
  run)
    exec </dev/null >stdout 2>stderr
    echo $$ >runner
    # In a session of its own, so that what it leaves running ends with it.
    if command -v setsid >/dev/null; then setsid sh -eu ./task & else sh -eu ./task & fi
    task=$!
    echo $task >process.new && mv process.new process
    trap 'interrupted=yes; : >terminated; kill -s TERM -- -$task 2>/dev/null' TERM INT HUP
    trap 'interrupted=yes; [ ! -f kill ] || sh ./kill; kill -s KILL -- -$task 2>/dev/null' USR1
    if [ -f limit ]; then
      {
        sleep "$(cat limit)" && echo TIMEOUT >state && kill -s TERM -- -$task
        sleep 10 && kill -s KILL -- -$task
      } 2>/dev/null &
      clock=$!
    fi
    status=
    while :; do
      interrupted=
      wait $task
      code=$?
      if [ -n "$interrupted" ]; then status=$code; continue; fi  # of the wait that was interrupted, perhaps
      [ $code -eq 127 ] && [ -n "$status" ] || status=$code
      break
    done
    kill -s KILL -- -$task 2>/dev/null
    [ ! -f limit ] || kill -s KILL $clock 2>/dev/null
    ended $status
    ;;
  start)
    begin
    ;;
  follow)
    out=$1 err=$2
    while :; do
      if [ -e status ]; then last=yes; else last=; fi
      new_out=$(size stdout) new_err=$(size stderr)
      print_new stdout $out $new_out
      print_new stderr $err $new_err >&2
      if [ $new_out -gt $out ] || [ $new_err -gt $err ]; then [ ${rounds:-0} -le 20 ] || rounds=20; fi
      [ $new_out -le $out ] || out=$new_out
      [ $new_err -le $err ] || err=$new_err
      [ -z "$last" ] || exit "$(verdict "$(cat status)")"
      if alive; then rest; elif [ ! -e status ]; then sleep 1; [ -e status ] || why_gone; fi
    done
    ;;
  status)
    cat status 2>/dev/null || :
    ;;
  stop)
    if [ -f stop ]; then sh ./stop; else signal_task TERM; fi
    # A dozen seconds, then whoever asked must insist.
    rounds=0
    until [ -e status ] || ! alive || [ $rounds -gt 63 ]; do rest; done
    ;;
  kill)
    [ -f scheduler ] || [ ! -f kill ] || sh ./kill
    rounds=0
    until [ -e status ] || ! alive || [ $rounds -gt 60 ]; do
      signal_task KILL
      rest
    done
    [ -e status ] || ended 137
    ;;
esac
"""


def task_script(plan: Plan, directory: str, invocation: Invocation) -> str:
    """What the job runs: the whole plan, which cleans up also when it is told to end."""
    # A shell with a trap waits for the command that it runs, and goes on to what must be done last.
    lines = ["trap : TERM INT HUP", *read_secrets(invocation, directory)]
    if lines[1:]:
        lines.append(f"rm -rf {shlex.quote(f'{directory}/secrets')}")
    return "\n".join([*lines, embedded(plan, reasons_in=directory), ""])


def secret_files(invocation: Invocation, directory: str) -> tuple[tuple[str, str], ...]:
    """Each secret's name and the file, readable by the caller alone, in which it reaches the job."""
    return tuple(
        (secret.name, invocation.secret_path(secret) if secret.mount else f"{directory}/secrets/{secret.name}")
        for secret in invocation.secrets
    )


def read_secrets(invocation: Invocation, directory: str) -> tuple[str, ...]:
    """Lines of shell that make variables of the secrets, whatever they end with."""
    return tuple(
        f"{name}=$(cat {shlex.quote(path)} && printf x) && {name}=${{{name}%x}} && export {name}"
        for name, path in secret_files(invocation, directory)
    )


def write_secrets(invocation: Invocation, directory: str) -> Iterable[WriteFile]:
    """The steps that write them on this host."""
    for name, path in secret_files(invocation, directory):
        yield WriteFile(path=path, text=SecretText(name))
