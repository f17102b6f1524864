"""What cube does with a job of a cluster, through `kubectl`: a script that lies in the run's own directory."""

import shlex

from mlcube.patience import limited
from mlcube_runners._kubernetes_ranks import FINISHED, RANKS
from mlcube_runners._kubernetes_sending import SENDING

__all__ = ["LOST_STATUS", "job_script"]

LOST_STATUS = 255
"""The status of what could not reach the cluster, or the pod."""

_STATES = """\
{{range .items}}pod {{.status.phase}} {{with .status.reason}}{{.}}{{else}}-{{end}} {{.metadata.name}} \
{{with .status.message}}{{.}}{{end}}
{{range .status.conditions}}{{if eq .type "PodScheduled"}}{{if ne .status "True"}}unscheduled {{.reason}} - - \
{{with .message}}{{.}}{{end}}
{{end}}{{end}}{{end}}\
{{range .status.initContainerStatuses}}{{template "container" .}}{{end}}\
{{range .status.containerStatuses}}{{template "container" .}}{{end}}{{end}}"""
_CONTAINER = """\
{{define "container"}}{{$name := .name}}{{range $state, $is := .state}}{{$name}} {{$state}} \
{{with $is.reason}}{{.}}{{else}}-{{end}} {{if eq $state "terminated"}}{{$is.exitCode}}{{else}}-{{end}} \
{{with $is.message}}{{.}}{{end}}
{{end}}{{end}}"""
_EVENTS = """\
{{range .items}}{{if eq .type "Warning"}}{{.reason}} {{.message}}
{{end}}{{end}}"""

_REASONS = "^(ErrImage|ImagePull|InvalidImage|ImageInspect|Registry|CreateContainer.*Error|RunContainer|CrashLoop)"
"""What a container waits for that will not begin."""

_TEMPORARY = "|".join(
    (
        *("connection refused", "timeout", "timed out", "unable to connect", "no such host", "unexpected EOF", ": EOF"),
        *("reset by peer", "connection lost", "unreachable", "unavailable", "too many requests"),
        *("currently unable", "etcdserver"),
    )
)
"""What is said by a cluster, or by those in between, that may answer a little later."""

_FAULTY = r"50[0-9] |5[0-9][0-9] [A-Z]|size validation|unexpected commit digest|failed to (copy|do request)"
"""What is said by a node of a registry that may answer well a little later."""

_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, *(30.0 * 2**n for n in range(5)), 900.0, 1800.0, *(3600.0,) * 4)
"""Between attempts to get through: hours in all."""

_JOB = r"""# Sees to the job of this directory: sh job WORD...; the words are below
cd "$(dirname "$0")" || exit 1
verb=$1
shift

say() {
  printf '%s\n' "$@" >&2
}

# For how long an image need not come whole: the node tries it at once, and after 10 and 20 seconds more.
images_seconds=40

# What a question says that is asked again when the cluster does not answer; an answer that is no is one, too.
again() {
  for pause in 1 2 4 8 15 30 60 end; do
    status=0
    "$@" 2>complaint.$$ || status=$?
    [ $status -ne 0 ] || break
    unreached complaint.$$ && [ $pause != end ] || break
    sleep $pause
  done
  [ $status -eq 0 ] || cat complaint.$$ >&2
  rm -f complaint.$$
  return $status
}

unreached() {
  grep -qiE "$temporary" "$1"
}

# What is known of the pod, one line for each thing: name, state, reason, status, message.
look() {
  cluster get pods --selector="job-name=$job" --output="go-template=$states" >look.$$ 2>complaint.$$ || {
    unreached complaint.$$ && lost=yes || lost=
    rm -f look.$$ complaint.$$
    return 1
  }
  rm -f complaint.$$
  mv look.$$ look
}

field() { # field NAME NUMBER
  awk -v name="$1" -v number="$2" '$1 == name { print $number; exit }' look 2>/dev/null
}

message() { # message NAME
  awk -v name="$1" '$1 == name { sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ /, ""); print; exit }' look
}

events() { # events KIND NAME
  cluster get events --field-selector="involvedObject.kind=$1,involvedObject.name=$2" \
    --output="go-template=$warnings" 2>/dev/null
}

# Tells why the pod will not start, where that is so.
problem() {
  if [ -z "$(field pod 2)" ]; then
    refused=$(events Job "$job" | awk '$1 == "FailedCreate" { sub(/^[^ ]+ /, ""); print; exit }')
    [ -n "$refused" ] || return 1
    say "error: the cluster does not admit the pod: $refused"
    return 0
  fi
  waits=$(awk -v reasons="$reasons" '$2 == "waiting" && $3 ~ reasons { print $1; exit }' look)
  if [ -n "$waits" ]; then
    reason=$(field "$waits" 3) said=$(message "$waits")
    pulled=$(events Pod "$(field pod 4)" | awk '$1 == "Failed" && /pull/ { sub(/^[^ ]+ /, ""); print; exit }')
    # A registry that does not answer well for a while is asked again by the node.
    ! printf '%s\n' "${pulled:-$said}" | grep -qiE "$temporary|$faulty" || [ "$waited" -ge $images_seconds ] || return 1
    say "error: the cluster cannot start the task, $reason: ${pulled:-$said}"
    return 0
  fi
  if [ -n "$(field unscheduled 2)" ] && [ "$waited" -ge "$patience" ]; then
    say "error: no node takes the task within $patience seconds, $(field unscheduled 2): $(message unscheduled)"
    return 0
  fi
  if [ "$(field pod 2)" = Failed ] && [ "$(field task 2)" != terminated ]; then
    say "error: the pod has failed, $(field pod 3): $(message pod)"
    [ "$(field receive 2)" != terminated ] || cluster logs "job/$job" --container=receive --tail=3 >&2
    return 0
  fi
  case $(field task 3) in
    StartError | ContainerCannotRun)
      say "error: the cluster cannot start the task, $(field task 3): $(message task)"
      return 0
      ;;
  esac
  return 1
}

# Waits until something of the pod changes, or for so many seconds.
change() {
  rm -f changed && mkfifo changed
  since=$(date +%s)
  cluster get pods --selector="job-name=$job" --watch-only --output=name --request-timeout="$1s" \
    >changed 2>/dev/null </dev/null &
  # What cannot be watched is looked at once in a second.
  read -r changes <changed || [ "$(date +%s)" -gt "$since" ] || sleep 1
  kill $! 2>/dev/null
  wait $! 2>/dev/null
}

has_begun() { # has_begun CONTAINER
  case $(field "$1" 2) in running | terminated) ;; *) return 1 ;; esac
}

# Waits until the containers have begun. Without news it is asked once a second, and more rarely as time passes.
await() {
  waited=0 unanswered=0 pause=1 beginning=$(date +%s)
  while :; do
    if look; then
      unanswered=0 begun=yes
      for container do
        has_begun "$container" || begun=
      done
      ! problem || exit 74
      [ -z "$begun" ] || return 0
    else
      unanswered=$((unanswered + 1))
      [ $unanswered -le 30 ] || { say "error: the cluster does not answer"; exit @LOST@; }
    fi
    [ $waited -lt "$longest" ] || {
      last=$(events Pod "$(field pod 4)" | tail -n 1)
      say "error: the pod has not started within $longest seconds: $(field "$1" 3) $last"
      exit 74
    }
    change $pause
    waited=$(($(date +%s) - beginning))
    [ $waited -lt 60 ] || pause=5
  done
}

inside() { # inside CONTAINER WORD...
  container=$1
  shift
  cluster exec --stdin --quiet "job/$job" --container="$container" -- sh -c 'eval "$CUBE_FAR"' far "$@"
}

# What is asked for is done once the pod has said so: `kubectl exec` succeeds also where its connection was cut.
surely() { # surely CONTAINER WORD...
  [ "$(inside "$@")" = done ]
}

# Passes on what a stream has beyond so many bytes, and succeeds if all of it has come.
relay() { # relay STREAM BYTES OVER
  rm -f "count.$1" && mkfifo "count.$1"
  wc -c <"count.$1" >"bytes.$1" &
  inside collect follow "$1" "$2" "$3" </dev/null 2>"end.$1" | tee "count.$1"
  wait $!
  grep -qx "over $(($2 + $(cat "bytes.$1")))" "end.$1"
}

# Passes on what comes after so many bytes, at once: `tail` would keep the last of it until there is more.
beyond() { # beyond BYTES
  {
    dd bs=4096 count=$(($1 / 4096)) iflag=fullblock
    dd bs=1 count=$(($1 % 4096))
  } >/dev/null 2>&1
  exec cat
}

# How long to wait for a connection: hours in all, and then what is in the pod is still there.
pauses="@PAUSES@ end"

@SENDING@
# Whoever was killed may have left another one that fetches the same; each has files of its own.
fetch_part() { # fetch_part ATTEMPT PARCEL NUMBER
  for pause in $pauses; do
    if inside collect give "$1" "$2" "$3" </dev/null >given.$$ 2>complaint && read -r state sum <given.$$; then
      case $state in
        failed) say "error: what the task wrote cannot be read: $sum"; return 1 ;;
        last | more)
          line="$state $sum"
          [ -n "$sum" ] || { : >part.$$; return 0; }
          tail -c +$((${#line} + 2)) given.$$ >part.$$
          [ "$(cksum <part.$$)" != "$sum" ] || return 0
          ;;
      esac
    elif look; then
      [ "$(field collect 2)" = running ] || { say "error: the pod has gone, with what the task wrote"; return 1; }
    fi
    [ $pause = end ] || sleep $pause
  done
  cat complaint >&2
  return @LOST@
}

# The status of the task, once it has ended.
ended() {
  if [ -e status ]; then cat status; return; fi
  look || return
  gone=
  if [ "$(field task 2)" = terminated ]; then
    case $(field task 3) in Completed | Error) ;; *) field task 3 >state ;; esac
    conclude "$(field task 4)" "$(field pod 3)"
  elif [ -e started ]; then
    if [ -z "$(field pod 2)" ]; then gone=Gone; elif [ "$(field pod 2)" = Failed ]; then gone=$(field pod 3); fi
    [ -z "$gone" ] || conclude 137 "$gone"
  fi
}

conclude() { # conclude STATUS REASON: of the pod, if the cluster has ended it
  echo "$1" >status.new
  case $2 in
    - | '') ;;
    DeadlineExceeded) echo 124 >status.new ;;
    Evicted | Preempt*) echo 75 >status.new ;;
    NodeLost | NodeShutdown | Shutdown | Terminated) echo 69 >status.new ;;
  esac
  case $2 in - | '') ;; *) echo "$2" >state ;; esac
  mv status.new status
  cat status
}

# Ends with the task's status, when all that it printed has been told; `failed` if it may not have been.
exit_with_status() {
  unanswered=0
  while :; do
    lost=
    status=$(ended)
    [ -z "$status" ] || exit "$status"
    [ -z "$failed" ] || exit @LOST@
    unanswered=$((unanswered + 1))
    [ $unanswered -le 30 ] || exit @LOST@
    [ -e job ] || { say "$gone"; exit 137; }
    sleep $((1 + unanswered / 5))
  done
}
@RANKS@

case $verb in
  create)
    if [ -n "$local_image" ]; then
      digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$local_image" |
        grep -F "${local_image%:*}@sha256:" | tail -n 1)
      [ -n "$digest" ] || { say "error: \`$local_image\` has not been pushed from here"; exit 74; }
      sed "s|\"cube.invalid/image\"|\"$digest\"|g" manifest.json >manifest.new && mv manifest.new manifest.json
    fi
    : >created
    [ -n "$sends" ] || : >begun # it waits for nothing
    again cluster create --filename=manifest.json >/dev/null || again cluster get "job/$job" >/dev/null
    ;;
  secret) # secret NAME: its value is read
    : >created
    cat | cluster create secret generic "$1" --from-file=value=/dev/stdin >/dev/null 2>complaint ||
      cluster get "secret/$1" >/dev/null 2>&1 || { cat complaint >&2; exit 1; }
    cluster label --overwrite "secret/$1" $labels >/dev/null
    ;;
  own) # own KIND/NAME...: they go when the job goes
    uid=$(again cluster get "job/$job" --output='jsonpath={.metadata.uid}')
    for name do
      owner="{\"apiVersion\":\"batch/v1\",\"kind\":\"Job\",\"name\":\"$job\",\"uid\":\"$uid\"}"
      again cluster patch "$name" --type=merge --patch="{\"metadata\":{\"ownerReferences\":[$owner]}}" >/dev/null
    done
    ;;
  receive) [ -z "$sends" ] || await receive ;;
  send) # send PARCEL TARGET SOURCE FOLLOW [NAME]...: all of a directory, or what there is of some names in it
    parcel=$1 target=$2 source=$3 follow=$4
    shift 4
    if [ $# -eq 0 ]; then
      set -- .
    else
      for name do
        shift
        [ ! -e "$source/$name" ] || set -- "$@" "./$name"
      done
    fi
    [ $# -eq 0 ] || pass_on "$parcel" "$@"
    ;;
  start)
    [ ! -e started ] || exit 0
    : >begun
    for pause in $pauses; do
      [ -n "$sends" ] || break
      surely receive begin </dev/null 2>complaint && break
      waited=0
      if look; then
        ! problem || exit 74
        [ "$(field receive 2)" != terminated ] || break
      fi
      [ $pause != end ] || { cat complaint >&2; exit @LOST@; }
      sleep $pause
    done
    await collect task
    : >started
    ;;
  follow) # follow BYTES BYTES: of output and of errors that are known
    over=
    [ -z "$(ended)" ] || over=yes
    if [ -n "$wrapped" ]; then
      relay stdout "$1" "$over" &
      first=$!
      relay stderr "$2" "$over" >&2 &
      second=$!
    else
      rm -f unfollowed
      {
        cluster logs --follow "job/$job" --container=task 2>complaint.logs ||
          ! unreached complaint.logs || : >unfollowed
      } | beyond "$1" &
      first=$! second=$!
    fi
    failed=
    wait $first || failed=yes
    wait $second || failed=yes
    [ ! -e unfollowed ] || failed=yes
    gone="error: the directory of the task is gone: $(pwd)"
    [ -e job ] || { say "$gone"; exit 137; }
    # While the pod is there, so is what has not come yet, also after the task's end.
    [ -z "$failed" ] || { look && [ "$(field collect 2)" != running ]; } || exit @LOST@
    exit_with_status
    ;;
  status) ended ;;
  stop)
    [ ! -e begun ] || inside collect stop </dev/null || look
    ;;
  kill)
    [ ! -e begun ] || inside collect kill </dev/null || look
    ;;
  fetch) # fetch PARCEL FOLDER
    [ -e begun ] && [ ! -e "fetched.$1" ] || exit 0
    attempt=$(date +%s)-$$ number=1 parcel=$1 folder=$2
    {
      while fetch_part "$attempt" "$parcel" $number || { echo $? >failed.$$; false; }; do
        cat part.$$
        [ "$state" = more ] || break
        number=$((number + 1))
      done
    } | tar -C "$folder" --ignore-zeros -xof - || exit
    rm -f part.$$ given.$$
    [ ! -e failed.$$ ] || exit "$(cat failed.$$)"
    : >"fetched.$parcel"
    ;;
  remove)
    [ -e created ] || exit 0
    # Of a task that has ended the note is removed at once; what else is in its pod ends when it is told to.
    hurry='--grace-period=0 --force'
    [ ! -e begun ] || [ -n "$(ended)" ] || hurry=--grace-period=1
    without() {
      again cluster delete --ignore-not-found --wait=false "$@" >/dev/null 2>&1 || exit @LOST@
    }
    without --cascade=background --selector="$selector" $hurry "jobs,pods${ranks:+,services}"
    [ -z "$secrets" ] || without secrets $secrets
    ;;
esac
"""


def job_script(
    *,
    kubectl: tuple[str, ...],
    job: str,
    selector: str,
    labels: tuple[str, ...],
    secrets: tuple[str, ...],
    wrapped: bool,
    sends: bool,
    local_image: str | None,
    patience_seconds: int,
    longest_seconds: int,
    ranks: int,
) -> str:
    """The script for one job. `kubectl` is what each command begins with."""
    given = {
        "job": job,
        "selector": selector,
        "labels": " ".join(labels),
        "secrets": " ".join(secrets),
        "wrapped": "yes" if wrapped else "",
        "sends": "yes" if sends else "",
        "local_image": local_image or "",
        "patience": str(patience_seconds),
        "longest": str(longest_seconds),
        "states": _CONTAINER + _STATES,
        "warnings": _EVENTS,
        "reasons": _REASONS,
        "temporary": _TEMPORARY,
        "faulty": _FAULTY,
        **({"ranks": str(ranks), "finished": FINISHED} if ranks > 1 else {"ranks": ""}),
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in given.items()]
    lines.append(f'cluster() {{ {shlex.join(kubectl)} "$@"; }}')
    first, _, rest = _JOB.partition("\n")
    whole = rest.replace("@RANKS@", RANKS if ranks > 1 else "").replace("@SENDING@\n", SENDING)
    body = whole.replace("@LOST@", str(LOST_STATUS))
    body = body.replace("@PAUSES@", " ".join(f"{pause:g}" for pause in limited(_PAUSES)))
    return "\n".join([first, *lines, body])
