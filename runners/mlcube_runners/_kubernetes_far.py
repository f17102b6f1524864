"""What cube does inside the pod, beside the task: receives what it reads, tells what it prints, gives what it wrote."""

from mlcube.listening import LISTENING
from mlcube_runners._kubernetes_sending import LISTING

__all__ = ["FAR", "PLACE", "STREAMS"]

PLACE = "/cube"
"""Where the volume of the run is mounted in the containers of cube's own."""

STREAMS = "/mlcube/streams"
"""Where the task's container has the directory in which its output is kept."""

_PART_MEBIBYTES = 128
"""How much is fetched at once, and is fetched again if its connection fails."""

# `head -c` reads more than it prints on some systems, and what it read is lost to the next one; `dd` does not.
_FAR = r"""# receive FOLDER... -- [all]|unpack|append|close|list|begin|collect PACKING...|follow|stop|kill|give
cd /cube || exit 1
verb=$1
shift

@LISTENING@
@LISTING@
# Listens for what the others here do.
hear() {
  [ -d control ] || mkdir -p control
  listen "control/words.$$"
  trap '[ -z "$words" ] || rm -f "$words"' EXIT
}

# Hears of the task's end, which is that of what holds the other end of this file.
hear_end() {
  hear
  [ -n "$words" ] && [ -p streams/alive ] || return 0
  (
    read -r nothing <streams/alive
    echo >&3
  ) </dev/null >/dev/null 2>&1 &
  trap "kill $! 2>/dev/null; rm -f '$words'" EXIT
}

size() {
  wc -c 2>/dev/null <"$1" || echo 0
}

# Only one connection at a time brings something. One that was cut may not know it: it gets no more than it has.
alone() {
  hear
  rounds=0
  until [ -p control/news ]; do rest; done
  rounds=0
  until mkdir control/taking 2>/dev/null; do
    for taker in control/taking/taker.*; do :; done
    if [ -e "$taker" ] && { [ -e control/taking/reader ] || [ $rounds -gt 1 ]; }; then
      free "${taker##*.}"
    elif [ $rounds -le 1 ] || ! rmdir control/taking 2>/dev/null; then
      rest
    fi
  done
  : >"control/taking/taker.$$"
  echo "$verb" >>control/heard
}

# Reads what the connection brings, in a process that the next connection can end.
reading() { # reading COMMAND...
  sh -c 'echo $$ >control/taking/reader && exec "$@"' sh "$@"
}

# Whether a connection is being told what is there, which may take long.
lists() {
  for taker in control/taking/taker.*; do :; done
  kill -0 "${taker##*.}" && ! kill -0 "$(cat control/taking/reader)"
} 2>/dev/null

# Makes room for the next one, once: who has it may come to its end while another one ends it.
free() { # free PROCESS
  rm "control/taking/taker.$1" 2>/dev/null || return 0
  [ "$1" = $$ ] || kill -s KILL "$1" $(cat control/taking/reader) 2>/dev/null
  mv control/taking "control/taking.$$" && rm -r "control/taking.$$"
  tell control/words.*
}

# A mode as `ls` prints it.
symbolic() { # symbolic MODE
  echo "$1" | sed 's/^\(...\)\(...\)/u=\1,g=\2,o=/' | tr sStT 'x-x-' | tr -d -
}

# The mode and the time of a file that was appended to, also by one who was ended before the file was.
finish() {
  [ -e control/appended ] || return 0
  { read -r mode && read -r changed && IFS= read -r file; } <control/appended
  chmod "$mode" "$file"
  [ -z "$changed" ] || touch -d "@$changed" "$file"
  rm control/appended
}

# What is there now, or why it is not.
conclude() { # conclude STATUS TARGET
  finish
  if [ "$1" -eq 0 ]; then
    (cd "$2" && links= && list_all .)
    echo done
  else
    # An archive that ends too early came through a connection that did.
    grep -qE '^[^:]*: (Unexpected EOF|short read|This does not look)' complaint.$$ ||
      echo "failed $(head -n 1 complaint.$$)"
  fi
  rm -f complaint.$$
  free $$
}

# The number of the task's first process; the containers see each other's.
process() {
  if [ -s streams/process ]; then cat streams/process; else task_processes | sort -n | head -n 1; fi
}

task_processes() {
  for place in /proc/[0-9]*; do
    ! tr '\0' '\n' 2>/dev/null <"$place/environ" | grep -q "^CUBE_RUN_ID=" || echo "${place#/proc/}"
  done
}

runs() {
  [ -n "$1" ] && kill -0 "$1" 2>/dev/null
}

# Keeps the parts of one archive, two at most before somebody has taken the first of them.
slice() {
  listen "control/words.slice.$1"
  number=1
  dd bs=1048576 count=@PART@ iflag=fullblock 2>/dev/null >"out/$1.first"
  while [ -s "out/$1.first" ]; do
    dd bs=1048576 count=@PART@ iflag=fullblock 2>/dev/null >"out/$1.second"
    [ -s "out/$1.second" ] || echo $number >"out/$1.end"
    mv "out/$1.first" "out/$1.$number"
    mv "out/$1.second" "out/$1.first"
    tell control/words.*
    rounds=0
    while [ -e "out/$1.$((number - 1))" ]; do rest; done
    number=$((number + 1))
  done
  [ -e "out/$1.end" ] || echo 0 >"out/$1.end"
  tell control/words.*
}

case $verb in
  receive)
    while [ "$1" != -- ]; do
      mkdir -p -- "$1" || exit 1
      shift
    done
    shift
    : >streams/stdout && : >streams/stderr && mkfifo control/told streams/alive || exit 1
    [ $# -gt 0 ] || exit 0 # nothing comes at all
    for program in tar find cksum; do
      command -v $program >/dev/null || { echo "the image has no \`$program\`: see \`staging_image\`" >&2; exit 1; }
    done
    mkfifo control/news.new && exec 5<>control/news.new && mv control/news.new control/news || exit 1
    tell control/words.*
    (
      before=
      while sleep 3600; do
        now=$({ cat control/heard; du -s .; } 2>/dev/null | cksum)
        [ "$now" != "$before" ] || lists || break
        before=$now
      done
      echo late >&5
    ) >/dev/null 2>&1 &
    read -r news <&5
    [ "$news" != late ] || { echo "nothing has come for an hour" >&2; exit 1; }
    ;;
  unpack) # unpack TARGET: an archive is read
    alone
    status=0
    export LANGUAGE=en
    # What nothing could be added to is closed again, at the end.
    find "$1" -type d ! -perm -200 -exec chmod u+w {} +
    reading tar -C "$1" -xof - 2>complaint.$$ && cat >/dev/null || status=$?
    conclude $status "$1"
    ;;
  append) # append TARGET NAME BYTES MODE SECONDS: what is read comes after so many bytes of a file
    alone
    status=0
    if [ "$(size "$1/$2")" = "$3" ]; then
      printf '%s\n' "$(symbolic "$4")" "$5" "$1/$2" >control/appended.new && mv control/appended.new control/appended
      chmod u+w "$1/$2"
      reading cat 2>complaint.$$ >>"$1/$2" || status=$?
    fi
    conclude $status "$1"
    ;;
  close) # close TARGET: lines of a mode and a directory are read
    alone
    while IFS= read -r line; do
      mkdir -p "$1/${line#* }" && chmod "$(symbolic "${line%% *}")" "$1/${line#* }"
    done
    conclude 0 "$1"
    ;;
  list) # list TARGET
    alone
    conclude 0 "$1"
    ;;
  begin)
    alone
    free $$
    echo begin >control/news && echo done
    ;;
  collect)
    # Who looks with `kubectl logs` sees in the log of this container what the task prints.
    tail -n +1 -f streams/stdout &
    tail -n +1 -f streams/stderr >&2 &
    (
      sleep 86400
      echo late >control/told
    ) >/dev/null 2>&1 &
    exec 3<>control/told
    packers=
    while read -r word attempt <&3; do
      [ "$word" = pack ] || break
      [ -z "$packers" ] || kill $packers 2>/dev/null
      rm -rf out
      mkdir out
      number=0 packers=
      for packing do
        { eval "$packing" || : >"out/$attempt.$number.failed"; } 2>>out/complaints | slice "$attempt.$number" &
        packers="$packers $!"
        number=$((number + 1))
      done
    done
    exit 0
    ;;
  follow)
    file=streams/$1 at=$2
    hear_end
    while :; do
      over=$3
      [ ! -s streams/process ] || runs "$(cat streams/process)" || over=yes
      new=$(size "$file")
      if [ "$new" -gt "$at" ]; then
        tail -c +$((at + 1)) "$file" | head -c $((new - at))
        at=$new
        rounds=0
      fi
      [ -z "$over" ] || {
        echo "over $at" >&2
        exit 0
      }
      rest "$file" $at
    done
    ;;
  stop)
    task=$(process)
    runs "$task" || exit 0
    hear_end
    kill -s TERM "$task"
    # A dozen seconds, then whoever asked must insist.
    until ! runs "$task" || [ ${rounds:-0} -gt 9 ]; do rest; done
    ;;
  kill)
    hear_end
    for each in $(task_processes) $(process); do kill -s KILL "$each" 2>/dev/null; done
    task=$(process)
    until ! runs "$task" || [ ${rounds:-0} -gt 7 ]; do rest; done
    ;;
  give)
    name=$1.$2 number=$3
    hear
    mkdir "control/packing.$1" 2>/dev/null && echo "pack $1" >control/told
    rm -f "out/$name.$((number - 1))"
    tell control/words.*
    end=
    until [ -e "out/$name.$number" ] || [ "${end:-$number}" -lt "$number" ]; do
      [ ! -e "out/$name.failed" ] || break
      rest
      end=$(cat "out/$name.end" 2>/dev/null)
    done
    if [ -e "out/$name.failed" ]; then
      echo "failed $(tail -n 1 out/complaints)"
    elif [ -e "out/$name.$number" ]; then
      [ "$(cat "out/$name.end" 2>/dev/null)" = "$number" ] && last=last || last=more
      echo "$last $(cksum <"out/$name.$number")"
      cat "out/$name.$number"
    else
      echo "last"
    fi
    ;;
esac
""".replace("@PART@", str(_PART_MEBIBYTES))
FAR = _FAR.replace("@LISTENING@\n", LISTENING).replace("@LISTING@\n", LISTING)
"""Words are a folder, a part's number, and so on; a POSIX shell, and `tar`, `find`, `cksum` and `dd`."""
