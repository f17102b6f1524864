"""Plans as a POSIX shell script that does the same: also when it is stopped, when it is late, when it has to wait."""

import math
import shlex
from collections.abc import Sequence

import msgspec

from mlcube.plan import PATIENT_PAUSES, PAUSES, Command, Diagnosis, Job, Pipe, Plan, Step, Unless, printing

__all__ = ["body", "embedded", "guarded", "prelude", "standalone"]

_ATTENDING = """\
# Each command runs apart from this shell, so that a signal or the time limit can end it with all that it started.
cube_apart=$(command -v setsid || :) cube_child='' cube_timer='' cube_held='' cube_mine=''
: & cube_ended=$!
wait "$cube_ended"
cube_ask() { cube_tell TERM; }
cube_force() { :; }
cube_last() { :; }
cube_tell() {
  kill -s "$1" -- "-$cube_child" 2>/dev/null || kill -s "$1" "$cube_child" 2>/dev/null || :
}
cube_after() { # seconds command...
  (
    cube_sleep='' cube_over=''
    trap 'cube_over=yes; kill "$cube_sleep" 2>/dev/null || :' TERM
    sleep "$1" & cube_sleep=$!
    shift
    [ -z "$cube_over" ] || kill "$cube_sleep"
    wait "$cube_sleep" && "$@"
  ) </dev/null >/dev/null 2>&1 & cube_timer=$!
}
cube_in_time() {
  [ -z "$cube_timer" ] || kill "$cube_timer" 2>/dev/null || :
}
cube_wait() { # [seconds]
  cube_child=$!
  cube_status=0
  [ $# -eq 0 ] || cube_after "$1" kill -s ALRM $$
  wait "$cube_child" 2>/dev/null || cube_status=$?
  cube_ended=$cube_child cube_child=''
  cube_in_time
  kill -s KILL -- "-$cube_ended" 2>/dev/null || :
  return "$cube_status"
}
cube_stop() { # status
  trap : HUP INT TERM
  trap '' ALRM
  cube_in_time
  [ -n "$cube_child" ] || [ "$!" = "$cube_ended" ] || [ "$!" = "$cube_timer" ] || cube_child=$!
  if [ -n "$cube_child" ]; then
    cube_after @GRACE@ cube_tell KILL
    cube_ask || cube_tell TERM
    wait "$cube_child" 2>/dev/null || :
    cube_in_time
    cube_force || :
    cube_tell KILL
    wait "$cube_child" 2>/dev/null || :
  fi
  exit "$1"
}
cube_exit() {
  trap '' HUP INT TERM
  set +e
  cube_last "$1"
  [ -z "$cube_mine" ] || rm -f -- "$cube_mine"
  [ -z "$cube_held" ] || rm -f -- "$cube_held"
}
trap 'cube_exit "$?"' EXIT
trap 'cube_stop 129' HUP
trap 'cube_stop 130' INT
trap 'cube_stop 143' TERM
trap 'cube_stop 124' ALRM"""

_TRYING = """\
# Tries cube_once again, after each of the pauses, while its status is one that means that a connection failed.
cube_again() { # pauses status...
  cube_pauses=$1
  shift
  for cube_pause in $cube_pauses end; do
    cube_status=0
    cube_once || cube_status=$?
    case " $* " in *" $cube_status "*) ;; *) return "$cube_status" ;; esac
    [ "$cube_pause" != end ] || return "$cube_status"
    sleep "$cube_pause" & cube_wait || :
  done
}"""

_FORGETTING = """\
# What a task inherits of this shell: nothing but the variables that are named.
cube_forget() {
  for cube_name in $(awk 'BEGIN { for (name in ENVIRON) print name }'); do
    case " $* cube_name cube_apart " in
      *" $cube_name "*) ;;
      *) case $cube_name in [0-9]* | *[!A-Za-z0-9_]*) ;; *) command unset "$cube_name" 2>/dev/null || : ;; esac ;;
    esac
  done
}"""

_LOCKING = """\
# A lock is a file that names its holder, as `cube` itself writes it; one whose holder has ended is nobody's.
cube_field() {
  sed -n 's/.*"'"$1"'":"\\{0,1\\}\\([^",}]*\\).*/\\1/p' "$2" 2>/dev/null || :
}
cube_start() {
  if [ -e /proc/self/stat ]; then
    awk '{ sub(/.*[)] /, ""); if ($1 != "Z" && $1 != "X") print $20 }' "/proc/$1/stat" 2>/dev/null || :
  elif kill -0 "$1" 2>/dev/null; then
    echo 0
  fi
}
cube_boot() {
  cat /proc/sys/kernel/random/boot_id 2>/dev/null || :
}
cube_dead() {
  [ "$(cube_field host "$1")" = "$(uname -n)" ] || return 1
  [ "$(cube_field boot "$1")" = "$(cube_boot)" ] || return 0
  [ "$(cube_start "$(cube_field pid "$1")")" != "$(cube_field start "$1")" ]
}
cube_create() { # file
  for cube_try in 1 2 3; do
    ln "$cube_mine" "$1" 2>/dev/null && return
    # A file system without hard links: then a new file, which nobody opens that is there already.
    [ -e "$1" ] || (set -C && cat "$cube_mine" >"$1") 2>/dev/null || :
    [ ! -e "$1" ] || { [ "$(cube_field token "$1")" = "$cube_token" ]; return; }
  done
  printf '%s\\n' "error: the lock $1 cannot be made" "hint: see who may write there: ls -ld $(dirname -- "$1")" >&2
  exit 74
}
cube_lock() { # file what-for
  cube_token=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \\n') cube_told='' cube_rest=1
  mkdir -p -- "$(dirname -- "$1")"
  cube_mine=$1.$cube_token.new
  printf '{"pid":%s,"host":"%s","boot":"%s","start":%s,"token":"%s"}' \\
    $$ "$(uname -n)" "$(cube_boot)" "$(cube_start $$)" "$cube_token" >"$cube_mine"
  until cube_create "$1"; do
    cube_other=$(cube_field token "$1")
    if cube_dead "$1" && cube_create "$1.$cube_other"; then
      # Looked at again: somebody else may have removed it meanwhile, and hold a new one.
      [ "$(cube_field token "$1")" != "$cube_other" ] || rm -f -- "$1"
      rm -f -- "$1.$cube_other"
      continue
    fi
    [ -n "$cube_told" ] || printf '%s\\n' "waiting for process $(cube_field pid "$1") on $(cube_field host "$1")$2" \\
      "hint: if it does not run: rm $1" >&2
    cube_told=yes
    sleep "$cube_rest" & cube_wait || :
    cube_rest=$((cube_rest + (cube_rest + 1) / 2))
    [ "$cube_rest" -le 15 ] || cube_rest=15
  done
  cube_held=$1
  rm -f -- "$cube_mine"
}
cube_unlock() {
  rm -f -- "$cube_held"
  cube_held=''
}"""

_GRACE_SECONDS = 10
"""How long a command may take to end when it is asked to."""

_QUICK = ("chmod", "ln", "mkdir", "mv", "rm", "rmdir", "test", "touch")
"""What has ended before anybody could stop it."""


def standalone(plan: Plan, *, timeout_seconds: float | None = None) -> str:
    """One plan as a whole script."""
    return f"set -eu\n{prelude([plan])}\n{body(plan, timeout_seconds=timeout_seconds)}"


def prelude(plans: Sequence[Plan]) -> str:
    """The functions that the bodies of these plans call."""
    steps = [step for plan in plans for each in plan.commands for step in _within(each)]
    parts = [_ATTENDING.replace("@GRACE@", str(_GRACE_SECONDS))]
    if any(isinstance(step, Unless) and step.lock for step in steps):
        parts.append(_LOCKING)
    if any(isinstance(step, Command) and _needs_forgetting(step) for step in steps):
        parts.append(_FORGETTING)
    if any(isinstance(step, Command | Pipe) and step.transient for step in steps):
        parts.append(_TRYING)
    return "\n".join(parts)


def body(plan: Plan, *, timeout_seconds: float | None = None, ended: Sequence[Step] = ()) -> str:
    """What a plan does, and what `ended` does at its very end."""
    lines = []
    last = ['[ "$1" -eq 0 ] || {', *_calmly(plan.otherwise), "}"] if plan.otherwise else []
    last += _calmly((*plan.always, *ended))
    if last:
        lines.append("cube_last() {\n" + "\n".join(_indent(line) for line in last) + "\n}")
    lines += [_line(step) for step in plan.steps]
    if plan.task:
        lines += _task(plan, plan.task, timeout_seconds)
    lines += [_line(step) for step in plan.after]
    if last:
        lines.append("cube_last 0\ncube_last() { :; }")
    return "\n".join(lines)


def guarded(step: Unless) -> str:
    """A step that is left out when its probe succeeds; with a lock, one process at a time performs it."""
    probe = f"{msgspec.structs.replace(step.probe, quiet=False).script()} >/dev/null 2>&1"
    inner = "\n".join(_indent(_line(each)) for each in step.steps)
    if step.title:
        inner = f"  printf '%s\\n' {shlex.quote(step.title)} >&2\n{inner}"
    if step.lock is None:
        return f"{probe} || {{\n{inner}\n}}"
    what = f", which is busy with: {step.title}" if step.title else ""
    lock = f"cube_lock {shlex.join([step.lock, what])}"
    return f"{probe} || {{\n  {lock}\n  {probe} || {{\n{_indent(inner)}\n  }}\n  cube_unlock\n}}"


def embedded(plan: Plan, *, reasons_in: str) -> str:
    """A plan as a part of somebody else's script, which attends it.

    What diagnoses find is not told, but kept in the directory `reasons_in`: in `reason.0` and so on.
    """
    lines = [_unlocked(step).script() for step in plan.steps]
    if plan.task:
        task = plan.task.script()
        if isinstance(plan.task, Command):
            if _needs_forgetting(plan.task):
                lines.append(_FORGETTING)
            task = _discreetly(plan.task)
        kept = (_kept(each, f"{reasons_in}/reason.{number}") for number, each in enumerate(plan.diagnoses))
        reasons = "".join(kept)
        lines.append(task + (f" || {{ status=$?; {reasons}exit $status; }}" if reasons else ""))
    lines += [_unlocked(step).script() for step in plan.after]
    last = [f"[ $? -eq 0 ] || {{ {'; '.join(_calmly(plan.otherwise))}; }}"] if plan.otherwise else []
    last += _calmly(plan.always)
    if last:
        lines.insert(0, f"trap {shlex.quote('; '.join(last))} EXIT")
    return "\n".join(lines)


def _discreetly(task: Command) -> str:
    """Of what a signal ended a shell says so; but what is printed there is the task's alone."""
    if _needs_forgetting(task):
        inner = _with_secrets(task, "")
    elif task.input is None and not task.transient and task.hint is None:
        enter = f"cd {shlex.quote(task.directory)} && " if task.directory else ""
        inner = f"({enter}exec {task.words()})"
    else:
        inner = f"({task.script()})"
    # Around a subshell alone, dash takes the braces, and what is redirected there, for those of the subshell.
    return f"{{ :; {inner} 2>&9 9>&-; }} 9>&2 2>/dev/null"


def _unlocked(step: Step) -> Step:
    """Without locks, whose functions belong to a whole script."""
    if not isinstance(step, Unless):
        return step
    return msgspec.structs.replace(step, lock=None, steps=tuple(_unlocked(each) for each in step.steps))


def _kept(diagnosis: Diagnosis, path: str) -> str:
    asked = "" if diagnosis.status is None else f"[ $status -ne {diagnosis.status} ] || "
    return f"{asked}{{ {diagnosis.probe.script()}; }} >{shlex.quote(path)} 2>/dev/null || :; "


def _task(plan: Plan, task: Command | Job, timeout_seconds: float | None) -> list[str]:
    limit = "" if timeout_seconds is None else f" {math.ceil(timeout_seconds)}"
    reasons = [_indent(diagnosis.script()) for diagnosis in plan.diagnoses]
    ending = ["{", "  status=$?", *reasons, "  exit $status", "}"] if reasons else []
    lines = []
    if plan.stop:
        lines.append(f"cube_ask() {{ {plan.stop.script()}; }}")
    if plan.kill:
        lines.append(f"cube_force() {{ {plan.kill.script()} 2>&1; }}")
    if timeout_seconds is not None:
        late = f"error: the task was stopped after its time limit of {timeout_seconds:g} seconds"
        stop = f"printf '%s\\n' {shlex.quote(late)} >&2; cube_stop 124"
        lines.append(f"trap {shlex.quote(stop)} ALRM")
    wait = f"cube_wait{limit}"
    attended = _attended(task, wait) if isinstance(task, Command) else f"(\n{task.script()}\n) </dev/null & {wait}"
    lines.append(attended + (" || " + "\n".join(ending) if ending else ""))
    if plan.stop or plan.kill:
        lines.append("cube_ask() { cube_tell TERM; }\ncube_force() { :; }")
    return lines


def _line(step: Step) -> str:
    match step:
        case Command() if step.argv[0] not in _QUICK:
            return _retried(_attended(step, "cube_wait"), step.transient, step.patient) + step.otherwise()
        case Pipe():
            whole = msgspec.structs.replace(step, transient=()).script()
            statuses = (1, *step.transient) if step.transient else ()  # it does not tell whose status it was
            return _retried(f"$cube_apart sh -uc {shlex.quote(whole)} </dev/null & cube_wait", statuses, step.patient)
        case _:
            return step.script()


def _retried(text: str, transient: tuple[int, ...], patient: bool) -> str:
    """Again after a while, when its status says that a connection failed."""
    if not transient:
        return text
    pauses = " ".join(f"{seconds:g}" for seconds in (PATIENT_PAUSES if patient else PAUSES))
    return f"cube_once() {{\n{_indent(text)}\n}}\ncube_again {shlex.quote(pauses)} {' '.join(map(str, transient))}"


def _attended(command: Command, wait: str) -> str:
    """In the background, which a shell that waits can leave when it is asked to stop."""
    apart = "$cube_apart "
    if _needs_forgetting(command):
        return f"{_with_secrets(command, apart)} </dev/null & {wait}"
    text = f"{apart}{command.words()}"
    if command.directory:
        text = f"(cd {shlex.quote(command.directory)} && exec {text})"
    if command.input is not None:  # what is waited for is the last one, and it is the one that is apart
        return f"{printing(command.input)} | {text} & {wait}"
    return f"{text} </dev/null & {wait}"


def _needs_forgetting(command: Command) -> bool:
    """Nobody but the caller may read a process's environment; its arguments, as those of `env`, anybody."""
    return command.clean and bool(command.secrets)


def _with_secrets(command: Command, apart: str) -> str:
    """A subshell that becomes the command, in an environment with secrets and nothing else of the shell's."""
    settings = [f"{key}={shlex.quote(value)}" for key, value in command.environment.items()]
    lines = [f"cd {shlex.quote(command.directory)}"] if command.directory else []
    lines.append(f"cube_forget {shlex.join(command.secrets)}")
    lines += [f"export {setting}" for setting in settings]
    lines.append(f"exec {apart}{shlex.join(command.argv)}{' >/dev/null' if command.quiet else ''}")
    return "(\n" + "\n".join(_indent(line) for line in lines) + "\n)"


def _calmly(steps: Sequence[Step]) -> list[str]:
    """Each of them, whatever becomes of it."""
    return [f"{{ {step.script()}\n}} 2>/dev/null || :" for step in steps]


def _within(step: Step | Job) -> "list[Step | Job]":
    return [step, *(inner for each in step.steps for inner in _within(each))] if isinstance(step, Unless) else [step]


def _indent(text: str) -> str:
    """Two spaces before each line, except before those that begin inside a quoted word."""
    lines, quote = [], ""
    for line in text.split("\n"):
        lines.append(line if quote else f"  {line}")
        for character in line:
            if character == quote:
                quote = ""
            elif not quote and character in "'\"":
                quote = character
    return "\n".join(lines)
