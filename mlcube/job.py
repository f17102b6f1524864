"""A task that outlives whoever started it: a directory with its script, its output and its status."""

import shlex
from collections.abc import Iterable

from mlcube.invocation import Invocation
from mlcube.listening import LISTENING
from mlcube.plan import Plan, SecretText, WriteFile
from mlcube.script import embedded

__all__ = ["JOB", "read_secrets", "secret_files", "task_script", "write_secrets"]

_JOB = r"""# Performs the task of this directory: sh job run|start|follow|alive|status|stop|kill
case $0 in */*) cd "${0%/*}/" || exit 1 ;; esac
verb=$1
[ $# -eq 0 ] || shift

end_status=
ended() {
  end_status=$1
  # Over what was written for it when the task began: the disk may be full.
  { printf '%-4s\n' "$1" 1<>status.new && mv status.new status; } 2>/dev/null
  tell words.*
}

size() {
  wc -c 2>/dev/null <"$1" || echo 0
}

# What came to a file since it had so many bytes.
print_new() {
  [ "$3" -le "$2" ] || tail -c +$(($2 + 1)) "$1" | head -c $(($3 - $2))
}

@LISTENING@
# A number alone is no process: other hosts may see this directory, and numbers are used again.
here='' boot=''
read -r here 2>/dev/null </proc/sys/kernel/hostname || here=$(uname -n)
read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id || :

# Listens for what becomes of the task, where whoever sees to it runs on this host, too.
hear() {
  listen "words.$here.$$"
  trap '[ -z "$words" ] || rm -f "$words"' EXIT
}

# When a process began, as `born`; nothing of one that has ended.
look_up() {
  born=
  if [ -r /proc/self/stat ]; then
    read -r line 2>/dev/null <"/proc/$1/stat" || return 0
    set -- ${line##*) }
    case $1 in Z | X) ;; *) born=${20} ;; esac
  else
    born=$(LC_ALL=C TZ=UTC0 ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' -)
  fi
}

identify() {
  look_up "$1"
  echo "$1 $here ${boot:--} ${born:--}"
}

# Whether the process that a file identifies still runs: 0, 1 when it does not, 2 when only another host can tell.
runs() {
  pid= host= born=unknown
  read -r pid host its_boot began 2>/dev/null <"$1" || return 1
  [ "$host" = "$here" ] || return 2
  [ "$its_boot" = "${boot:--}" ] || return 1
  look_up "$pid"
  [ -n "$born" ] && [ "$began" = "$born" ]
}

# Gives a command a process group of its own, so that what it leaves running ends with it.
apart() {
  if command -v setsid >/dev/null; then exec setsid "$@"; fi
  if command -v perl >/dev/null; then exec perl -e 'setpgrp; exec { $ARGV[0] } @ARGV; exit 127' "$@"; fi
  exec "$@"
}

# Where nothing made a group, a process and those that descend from it: first who might go on when another one ends.
signal_group() {
  kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" $(
    ps -A -o pid= -o ppid= | awk -v top="$2" '
      { parent[$1] = $2 }
      END {
        if (top in parent) print top
        told[top]
        do {
          more = 0
          for (one in parent) if (parent[one] in told && !(one in told)) { print one; told[one]; more = 1 }
        } while (more)
      }'
  ) 2>/dev/null
}

# What follows is otherwise where a scheduler starts the task; see the file `scheduler`.

# Whether the task can still end of itself: 1 when it cannot. On another host it can, for all that is known here.
# Where several jobs share an answer, the file `alive` says in which file that is, which begins with when it was given
# in a line of its own, and how another line begins while the job lives. Beside it `.asking` is there while one asks.
alive() {
  runs runner || [ $? -eq 2 ]
}

# Tells what is known of a task that ended without a word. It fails when the task lives nevertheless.
why_gone() {
  echo "error: the task was ended from outside, or its machine was started again" >&2
  ended 137
  return 0
}

# The status to end with.
verdict() {
  echo "$1"
}

begin() {
  hear
  if mkdir started 2>/dev/null; then
    if command -v setsid >/dev/null; then session=setsid; else session=nohup; fi
    $session sh ./job run </dev/null >/dev/null 2>&1 3<&- &
    beginning=$!
    until [ -e runner ] || [ -e status ] || ! kill -0 $beginning 2>/dev/null; do rest; done
    [ -e runner ] || [ -e status ] && return
  elif [ -d started ]; then
    until [ -e runner ] || [ -e status ] || [ ${rounds:-0} -gt 12 ]; do rest; done
    return
  fi
  echo "error: the task could not be started in $(pwd): is the disk full?" >&2
  exit 1
}

# Ends this script where the task cannot be told anything.
must_be_here() {
  runs runner
  [ $? -ne 2 ] || {
    echo "error: the task runs on $host, and this is $here: it goes on there" >&2
    exit 1
  }
}

signal_task() {
  runs process
  # The number of a process that has ended stays its group's for as long as there is anything in it.
  case $?,$born in 0,* | 1,) signal_group "$1" "$pid" ;; esac
}

[ ! -f scheduler ] || . ./scheduler

case $verb in
  run)
    exec </dev/null >stdout 2>stderr
    { printf '    \n' >status.new && identify $$ >runner.new && mv runner.new runner; } || exit 1
    tell words.*
    if command -v setsid >/dev/null || command -v perl >/dev/null; then
      apart sh -eu ./task &
    else  # some shells need a terminal for this, and go on without
      set -m 2>/dev/null
      sh -eu ./task &
      set +m
    fi
    task=$!
    identify $task >process.new && mv process.new process
    trap 'interrupted=yes; : >terminated; signal_group TERM $task' TERM INT HUP
    trap 'interrupted=yes forced=yes; [ ! -f kill ] || sh ./kill >/dev/null 2>&1; signal_group KILL $task' USR1
    if [ -f limit ]; then
      (
        sleeping= over=
        trap 'over=yes; kill "$sleeping"' TERM
        pause() {
          sleep "$1" &
          sleeping=$!
          [ -z "$over" ] || kill "$sleeping"
          wait "$sleeping" && [ -z "$over" ]
        }
        read -r limit <limit
        # A sleep may know whole seconds only.
        pause "$limit" || { [ -z "$over" ] && pause $((${limit%%.*} + 1)); } || exit
        echo TIMEOUT >state
        signal_group TERM $task
        pause 10 && signal_group KILL $task
      ) 2>/dev/null &
      clock=$!
    fi
    status= forced=
    while :; do
      interrupted=
      wait $task 2>/dev/null  # a shell says what ended it
      code=$?
      if [ -n "$interrupted" ]; then status=$code; continue; fi  # of the wait that was interrupted, perhaps
      [ $code -eq 127 ] && [ -n "$status" ] || status=$code
      break
    done
    kill -s KILL -- -$task 2>/dev/null
    # Its script was ended too, so that what an engine left is seen to once more.
    [ -z "$forced" ] || [ ! -f kill ] || { sh ./kill; sleep 1; sh ./kill; } >/dev/null 2>&1
    [ ! -f limit ] || kill $clock 2>/dev/null
    ended $status
    ;;
  start)
    begin
    ;;
  follow)
    out=$1 err=$2
    hear
    # Where the task begins on another host, nothing tells of it but what comes to these.
    [ -e stdout ] && [ -e stderr ] || touch stdout stderr 2>/dev/null
    while :; do
      # A status that could not be kept, because the disk is full, perhaps, is one, too.
      if [ -e status ]; then read -r last <status; else last=$end_status; fi
      new_out=0 new_err=0
      [ ! -s stdout ] || new_out=$(size stdout)
      [ ! -s stderr ] || new_err=$(size stderr)
      print_new stdout $out $new_out
      print_new stderr $err $new_err >&2
      if [ $new_out -gt $out ] || [ $new_err -gt $err ]; then rounds=0; fi
      [ $new_out -le $out ] || out=$new_out
      [ $new_err -le $err ] || err=$new_err
      [ -z "$last" ] || exit "$(verdict "$last")"
      [ -e job ] || { echo "error: the directory of the task is gone: $(pwd)" >&2; exit 137; }
      if alive; then rest stdout $out stderr $err; elif [ ! -e status ]; then sleep 1; [ -e status ] || why_gone; fi
    done
    ;;
  alive) # [SECONDS: how old an answer may be that several jobs share]
    alive "$@"
    ;;
  status)
    if [ -e status ]; then read -r last <status && echo "$last"; fi
    ;;
  stop)
    hear
    [ -e status ] || must_be_here
    if [ -f stop ]; then sh ./stop; else signal_task TERM; fi
    # A dozen seconds, then whoever asked must insist.
    until [ -e status ] || ! alive || [ ${rounds:-0} -gt 9 ]; do rest; done
    ;;
  kill)
    hear
    [ -e status ] || must_be_here
    [ -f scheduler ] || [ ! -f kill ] || sh ./kill
    signal_task KILL
    until [ -e status ] || ! alive; do
      [ ${rounds:-0} -le 7 ] || {
        echo "error: the task does not end" >&2
        exit 1
      }
      rest
      signal_task KILL
    done
    [ -e status ] || ended 137
    ;;
esac
"""

JOB = _JOB.replace("@LISTENING@\n", LISTENING)
"""The file `job` of a task's directory."""


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
