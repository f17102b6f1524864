"""What a job does otherwise when Slurm starts it: how it begins, whether it still runs, why it ended."""

__all__ = ["SCHEDULER"]

SCHEDULER = r"""# For `job`: the task is a batch job of Slurm. Nothing here needs accounting (sacct).

number() {
  head -n 1 job.number 2>/dev/null
}

find_number() {
  squeue -h -n "$(cat name)" -o %A 2>/dev/null | head -n 1
}

keep_number() {
  [ -z "$1" ] || { printf '%s\n' "$1" "$(date +%s)" >job.number.new && mv job.number.new job.number; }
}

# A second start finds the first, also one whose answer was lost on its way.
begin() {
  [ ! -s job.number ] || return 0
  found=
  [ ! -e started ] || found=$(find_number)
  mkdir -p started
  [ -n "$found" ] || found=$(sh ./submit) || exit $?
  keep_number "${found%%;*}"
}

# One question for all jobs of the user: the answer lies where all of them find it, and is asked for ever more rarely.
ask_queue() {
  now=$(date +%s)
  answer=${XDG_CACHE_HOME:-$HOME/.cache}/mlcube/squeue
  asked=0
  [ ! -r "$answer" ] || read -r asked <"$answer"
  if [ $((now - asked)) -ge "$1" ] || [ "$asked" -le "$(sed -n 2p job.number)" ]; then
    mkdir -p "${answer%/*}"
    if { echo "$now" && squeue -h -u "$(id -un)" -o '%A %T'; } >"$answer.$$" 2>/dev/null; then
      mv "$answer.$$" "$answer"
    else
      rm -f "$answer.$$"
      return 1
    fi
  fi
}

alive() {
  [ "$(date +%s)" -ge "${next:-0}" ] || return 0
  interval=$((${interval:-1} * 3 / 2 + 1))
  [ $interval -le 30 ] || interval=30
  next=$(($(date +%s) + interval))
  # A controller that is too busy to answer says nothing about the job.
  ask_queue $((interval / 2 + 1)) || return 0
  grep -q "^$(number) " "$answer"
}

field() {
  scontrol show job -o "$(number)" 2>/dev/null | sed -n "s/.* $1=\([A-Z_0-9:]*\).*/\1/p"
}

# How Slurm calls the end, once it has decided.
final_state() {
  for pause in 0.2 0.5 1 1 2 2 3 5; do
    found=$(field JobState)
    case $found in RUNNING | COMPLETING | SUSPENDED) sleep $pause ;; *) break ;; esac
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

why_gone() {
  found=$(final_state)
  # The status may be on its way through the file system.
  [ "$found" != COMPLETED ] || sleep 5
  [ ! -e status ] || return 0
  keep_state "$found"
  code=$(field ExitCode)
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
  for pause in 0 0.5 1; do
    [ ! -s job.number ] && [ -e started ] || break
    sleep $pause
    keep_number "$(find_number)"
  done
  [ -s job.number ] || return 0
  told=$1
  [ "$1" != KILL ] || told=USR1
  case $(squeue -h -j "$(number)" -o %T 2>/dev/null) in
    RUNNING | SUSPENDED) scancel --batch "--signal=$told" "$(number)" || scancel "$(number)" ;;
    COMPLETING) ;;
    ?*) scancel "$(number)" ;;
  esac 2>/dev/null
}
"""
