"""What cube does inside the pod, beside the task: receives what it reads, tells what it prints, gives what it wrote."""

from mlcube.listening import LISTENING

__all__ = ["FAR", "PART_MEBIBYTES", "PLACE", "STREAMS"]

PLACE = "/cube"
"""Where the volume of the run is mounted in the containers of cube's own."""

STREAMS = "/mlcube/streams"
"""Where the task's container has the directory in which its output is kept."""

PART_MEBIBYTES = 128
"""How much is fetched at once, and is fetched again if its connection fails."""

# `head -c` reads more than it prints on some systems, and what it read is lost to the next one; `dd` does not.
_FAR = r"""# receive FOLDER... -- TARGET...|take|has|begin|collect PACKING...|follow|stop|kill|give
cd /cube || exit 1
verb=$1
shift

@LISTENING@
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

# Until something of a later parcel comes, or the word to begin, which comes last.
hear_news() {
  read -r latest <&5
  case $latest in
    late) echo "nothing has come for an hour" >&2 && exit 1 ;;
    broken) exit 1 ;;
  esac
}

hand_on() {
  rounds=0
  until [ -p control/news ]; do rest; done
  echo "$1" >control/news
}

# Only one connection at a time gives to `tar`. One that was cut may not know it: it gets no more than it has.
alone() {
  hear
  rounds=0
  until mkdir control/taking 2>/dev/null; do
    taker=$(cat control/taking/taker 2>/dev/null)
    if [ -n "$taker" ] && ! kill -0 "$taker" 2>/dev/null && [ -d control/taking ]; then
      [ ! -e control/taking/given ] || { echo "what has come is not known" >&2; hand_on broken; exit 1; }
      free
    elif [ -e control/taking/reader ]; then
      kill "$(cat control/taking/reader)" 2>/dev/null
    elif [ ! -e control/taking/given ] && [ $rounds -gt 1 ]; then
      kill "$taker" 2>/dev/null
    fi
    rest
  done
  echo $$ >control/taking/taker.new && mv control/taking/taker.new control/taking/taker
}

free() {
  mv control/taking "control/taking.$$" && rm -r "control/taking.$$"
  tell control/words.*
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
    number=0
    for target do
      mkfifo "control/parcel.$number" || exit 1
      number=$((number + 1))
    done
    mkfifo control/news.new && exec 5<>control/news.new && mv control/news.new control/news || exit 1
    tell control/words.*
    (
      before=
      while sleep 3600; do
        now=$(cat control/taken.* 2>/dev/null | cksum)
        [ "$now" != "$before" ] || break
        before=$now
      done
      echo late >&5
    ) >/dev/null 2>&1 &
    parcel=0 latest=-1
    for target do
      while [ "$latest" -lt $parcel ]; do hear_news; done
      if [ "$latest" = $parcel ]; then
        { tar -C "$target" -xof - && cat >/dev/null || { echo broken >&5 && false; }; } <"control/parcel.$parcel" &
        exec 4>"control/parcel.$parcel" # so that it does not end between two connections
        while [ "$latest" -le $parcel ]; do hear_news; done
        exec 4>&-
        wait $! || exit 1
      fi
      parcel=$((parcel + 1))
    done
    while [ "$latest" -lt $parcel ]; do hear_news; done
    ;;
  take) # take PARCEL MEBIBYTES: gives to `tar` what is read, and says for each so many mebibytes what they were
    trap '' PIPE
    alone
    hand_on "$1"
    : >>"control/taken.$1"
    mkfifo "control/sum.$$"
    exec 4>"control/parcel.$1"
    : >control/taking/given
    while :; do
      cksum <"control/sum.$$" >"control/counted.$$" &
      sh -c 'echo $$ >control/taking/reader && exec dd bs=1048576 "count=$1" iflag=fullblock 2>/dev/null' sh "$2" |
        tee "control/sum.$$" >&4 || hand_on broken
      wait $!
      cat "control/counted.$$" >>"control/taken.$1"
      cat "control/counted.$$"
      read -r sum bytes <"control/counted.$$"
      [ "$bytes" = $(($2 * 1048576)) ] || break
    done
    exec 4>&-
    rm "control/sum.$$" "control/counted.$$"
    free
    ;;
  has) # has PARCEL LINES: what it was beyond so many lines
    alone
    free
    ! [ -e "control/taken.$1" ] || tail -n +$(($2 + 1)) "control/taken.$1"
    echo done
    ;;
  begin)
    alone
    free
    hand_on 1000000 && echo done
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
      rest
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
""".replace("@PART@", str(PART_MEBIBYTES))
FAR = _FAR.replace("@LISTENING@\n", LISTENING)
"""Words are a parcel's number, a part's number, and so on; a POSIX shell, and `tar`, `dd`, `tee` and `cksum`."""
