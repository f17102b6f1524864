"""What a job does otherwise when Slurm starts it: how it begins, whether it still runs, why it ended."""

from mlcube_runners._cache import FIND_CACHE

__all__ = ["SCHEDULER"]

_SCHEDULER = r"""# For `job`: the task is a batch job of Slurm. Nothing here needs accounting (sacct).

newline='
'

number() {
  known=
  read -r known 2>/dev/null <job.number || :
  printf '%s\n' "$known"
}

# When the job was submitted, as `submitted`, by the clock of whoever did.
look_when() {
  submitted=
  { read -r submitted && read -r submitted; } 2>/dev/null <job.number || submitted=0
}

# Nothing when there is none; fails when nobody answers.
find_number() {
  jobs=$(squeue -h -n "$(cat name)" -o %A 2>/dev/null) || return 1
  printf '%s\n' "${jobs%%"$newline"*}"
}

keep_number() {
  [ -z "$1" ] || {
    name_answer
    printf '%s\n' "$answer" "$1 " >alive
    # Whoever finds it not empty finds it whole, and what another one adds changes nothing.
    printf '%s\n' "$1" "$(date +%s)" >>job.number
  }
}

# Also of a submission that was interrupted: what sbatch printed, or else the queue.
learn_number() {
  found=
  for each in submitting.*/number; do
    [ -n "$found" ] || read -r found 2>/dev/null <"$each" || :
  done
  [ -n "$found" ] || found=$(find_number) || return 1
  keep_number "${found%%;*}"
}

# Whoever makes the directory of a turn submits; after a turn whose process has ended without a number comes the next.
begin() {
  turn=1 waited=0
  until [ -s job.number ]; do
    if mkdir "submitting.$turn" 2>/dev/null; then
      submit "submitting.$turn" || exit $?
      return 0
    fi
    [ -d "submitting.$turn" ] || { echo "error: nothing can be written in $(pwd)" >&2; exit 1; }
    if [ -s "submitting.$turn/ended" ]; then turn=$((turn + 1)); continue; fi
    lives=0
    if [ -s "submitting.$turn/process" ]; then runs "submitting.$turn/process" || lives=$?; else lives=2; fi
    # Ten minutes are more than the patience of any sbatch; whoever has said nothing for half a minute never began.
    if [ $lives -eq 1 ] || { [ $lives -eq 2 ] && [ $waited -ge 600 ]; } ||
      { [ ! -s "submitting.$turn/process" ] && [ $waited -ge 30 ]; }; then
      turn=$((turn + 1)) waited=0
      continue
    fi
    [ $waited -lt 600 ] || { echo "error: process $pid on $host submits, and has no answer" >&2; exit 1; }
    pause=$((1 + waited / 10))
    [ $pause -le 15 ] || pause=15
    sleep $pause
    waited=$((waited + pause))
  done
}

submit() {
  # The number of an earlier turn may have been lost on its way, or not be in the queue yet.
  if [ "$turn" -gt 1 ]; then
    for pause in 0 1 2; do
      sleep $pause
      learn_number || { echo submit >"$1/ended"; echo "error: squeue does not answer" >&2; return 1; }
      [ ! -s job.number ] || return 0
    done
  fi
  sh ./job submit "$1" || {
    failed=$?
    echo $failed >"$1/ended"
    # A controller that took the job may have been too busy to say so.
    learn_number
    [ -s job.number ] || return $failed
  }
  learn_number && [ -s job.number ] || {
    scancel "$(head -n 1 "$1/number")" 2>/dev/null
    echo "error: the number of the job cannot be kept in $(pwd)" >&2
    return 1
  }
}

# Numbers are a cluster's own, and clocks a host's.
name_answer() {
  [ -z "${answer-}" ] || return 0
  cluster=
  read -r cluster 2>/dev/null <cluster || :
  [ -n "$cluster" ] || cluster=$(scontrol show config 2>/dev/null | sed -n 's/^ClusterName *= *//p')
  answer=$cluster.$here
  case $answer in *[!A-Za-z0-9._-]*) answer=$(printf %s "$answer" | tr -c 'A-Za-z0-9._-' _) ;; esac
  answer=$(cache)/squeue.$answer
}

# One question for all jobs of the user: the answer lies where all of them find it, and is asked for ever more rarely.
# While one asks, the others do without: what nobody knows is not the end of a job.
ask_queue() {
  name_answer
  now=$(date +%s)
  asked=0
  [ ! -r "$answer" ] || read -r asked <"$answer"
  case $asked in '' | *[!0-9]*) asked=0 ;; esac
  look_when
  if [ $((now - asked)) -ge "$1" ] || [ "$asked" -gt "$now" ] || [ "$asked" -le "$submitted" ]; then
    mkdir "$answer.asking" 2>/dev/null || {
      mkdir -p "${answer%/*}" 2>/dev/null
      [ -z "$(find "$answer.asking" -prune -mmin +1 2>/dev/null)" ] || rmdir "$answer.asking" 2>/dev/null
      mkdir "$answer.asking" 2>/dev/null || [ ! -d "$answer.asking" ] || return 1
    }
    queue=$(squeue -h -u "$(id -un)" -o '%A %T' 2>/dev/null) || {
      rmdir "$answer.asking" 2>/dev/null
      return 1
    }
    # An answer that cannot be kept is an answer.
    { printf '%s\n' "$now" "$queue" >"$answer.$$" && mv "$answer.$$" "$answer"; } 2>/dev/null ||
      rm -f "$answer.$$"
    rmdir "$answer.asking" 2>/dev/null || :
  else
    queue=$(sed 1d "$answer")
  fi
}

alive() { # alive [SECONDS]
  [ "$rested" -ge "${next:-0}" ] || return 0
  [ -s job.number ] || return 1
  # Of a job that is a second old, no answer can be told from one that came before it; one that is far ahead was
  # submitted before the clock was set back, or by the clock of another host.
  look_when
  now=$(date +%s)
  if [ "$now" -le "$((submitted + 1))" ] && [ "$now" -ge "$((submitted - 60))" ]; then
    next=$((rested + submitted + 2 - now))
    return 0
  fi
  interval=$((${interval:-1} * 3 / 2 + 1))
  [ $interval -le 30 ] || interval=30
  next=$((rested + interval))
  # A controller that is too busy to answer says nothing about the job.
  ask_queue "${1:-$((interval / 2 + 1))}" || return 0
  case $newline$queue in *"$newline$(number) "*) ;; *) return 1 ;; esac
}

must_be_here() {
  :
}

in_answer() {
  sed -n "s/.* $1=\([A-Z_0-9:]*\).*/\1/p"
}

# How Slurm calls the end, once it has decided: on a busy machine it takes its time, and does not always answer.
final_state() {
  command -v scontrol >/dev/null || return 0
  for pause in 1 1 2 2 3 5 8 15 15 30; do
    found=
    said=$(scontrol show job -o "$(number)" 2>&1) && found=$(printf '%s\n' "$said" | in_answer JobState)
    case $found,$said in
      RUNNING,* | COMPLETING,* | SUSPENDED,* | STOPPED,* | SIGNALING,* | STAGE_OUT,*) sleep $pause ;;
      ,*"nvalid job id"*) break ;;
      ,*) sleep $pause ;;
      *) break ;;
    esac
  done
  echo "$found"
}

keep_state() {
  case $1 in
    OUT_OF_MEMORY | TIMEOUT | DEADLINE | CANCELLED | PREEMPTED | NODE_FAIL | BOOT_FAIL) echo "$1" >state ;;
  esac
}

verdict() {
  if [ ! -e state ] && { [ -e terminated ] || [ "$1" -eq 137 ]; }; then keep_state "$(final_state)"; fi
  case $(cat state 2>/dev/null) in
    TIMEOUT | DEADLINE) echo 124 ;;
    PREEMPTED) echo 75 ;;
    NODE_FAIL | BOOT_FAIL) echo 69 ;;
    *) echo "$1" ;;
  esac
}

# The queue may have been another cluster's, or an old one: only Slurm's word on this very job ends it.
why_gone() {
  found=unknown
  if [ -s job.number ]; then
    said=$(scontrol show job -o "$(number)" 2>&1) || case $said in *"nvalid job id"*) ;; *) return 1 ;; esac
    found=$(printf '%s\n' "$said" | in_answer JobState)
  fi
  case $found in
    PENDING | CONFIGURING | RUNNING | SUSPENDED | STOPPED | COMPLETING | RESIZING | SIGNALING | STAGE_OUT) return 1 ;;
    REQUEUE* | SPECIAL_EXIT | RESV_DEL_HOLD) return 1 ;;
  esac
  # The status may be on its way through the file system.
  [ "$found" != COMPLETED ] || sleep 5
  [ ! -e status ] || return 0
  keep_state "$found"
  code=$(printf '%s\n' "${said-}" | in_answer ExitCode)
  case $found,$code in
    OUT_OF_MEMORY,*) ended 137 ;;
    TIMEOUT,* | DEADLINE,*) ended 124 ;;
    CANCELLED,* | PREEMPTED,*) ended 143 ;;
    FAILED,0:[1-9]*) ended $((128 + ${code#*:})) ;;
    FAILED,[1-9]*)
      echo "error: the batch script failed before the task, with status ${code%:*}: see \`modules\` and \`before\`" >&2
      ended "${code%:*}"
      ;;
    *)
      echo "error: job $(number) has gone without a word (${found:-unknown to Slurm})" >&2
      ended 69
      ;;
  esac
}

# The batch shell is told, which tells the task. A plain scancel gives the task half a minute, in which nothing else
# reaches it: so it is for the queue, and for a shell that does not hear.
signal_task() {
  next=0 interval=0
  # A submission that was interrupted may have arrived nevertheless, a moment later.
  for pause in 0 1 1; do
    [ ! -s job.number ] && { [ -e started ] || [ -e submitting.1 ]; } || break
    for turn in submitting.*; do
      [ -s "$turn/number" ] || { runs "$turn/process" && kill "$pid"; }
    done
    sleep $pause
    learn_number
  done 2>/dev/null
  [ -s job.number ] || return 0
  told=$1
  [ "$1" != KILL ] || told=USR1
  case $(squeue -h -j "$(number)" -o %T 2>/dev/null) in
    RUNNING | SUSPENDED) scancel --batch "--signal=$told" "$(number)" || scancel "$(number)" ;;
    COMPLETING) ;;
    ?*) scancel "$(number)" ;;
  esac 2>/dev/null
}

# What submits has a number of its own, and prints that of the job where everybody finds it.
if [ "$verb" = submit ]; then
  identify $$ >"$1/process"
  exec >"$1/number"
  . ./submit
  exit
fi
"""

SCHEDULER = f"{FIND_CACHE}\n{_SCHEDULER}"
"""The file `scheduler` of a job's directory."""
