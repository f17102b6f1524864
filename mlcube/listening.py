"""How scripts wait for each other without looking all the time: a word cuts a pause short."""

__all__ = ["LISTENING"]

LISTENING = r"""words= rounds=0 rested=0

# A word that comes through this file cuts a rest short. Where none can be made, a rest is whole.
listen() { # listen FILE
  words=$1
  rm -f "$words"
  { mkfifo "$words" && command exec 3<>"$words"; } 2>/dev/null || words=
}

# Nobody waits for who does not listen any more.
tell() { # tell FILE...
  for words_of do
    [ ! -p "$words_of" ] || echo 1<>"$words_of"
  done 2>/dev/null
}

# A second, and longer as time passes: after a minute five, after a quarter of an hour fifteen. One that a word cut
# short is not counted. What comes to a file beyond so many bytes is a word, too, where that is worth a few processes.
# What `$!` was before is forgotten.
rest() { # rest [FILE BYTES]...
  seconds=$((1 + ${rounds:-0} / 8)) word=late
  [ $seconds -le 15 ] || seconds=15
  if [ -z "${words-}" ]; then
    sleep $seconds
  else
    [ $seconds -gt 4 ] || set --
    (if [ $# -eq 0 ]; then doze; else (doze "$@") | first_byte; fi) </dev/null >/dev/null 2>&1 &
    # What cuts it short has to know the number of its sleep, which comes through the same file as the words.
    asleep=
    until
      # Where nothing can be heard after all, this rest is whole and so are those to come.
      read -r spoken <&3 || { words= word=late; break; }
      [ "$spoken" = over ]
    do
      case $spoken in [0-9]*) asleep=$spoken ;; *) word= ;; esac
      [ -n "$word" ] || [ -z "$asleep" ] || { kill -s KILL "$asleep" || :; asleep=; }
    done 2>/dev/null
    wait $! 2>/dev/null || :
  fi
  [ "$word" != late ] || rounds=$((${rounds:-0} + 1)) rested=$((rested + seconds))
}

# Prints what comes to the files, until its sleep has ended.
doze() { # doze [FILE BYTES]...
  tails=
  trap 'echo over >&3' EXIT
  while [ $# -gt 0 ]; do
    if [ -e "$1" ]; then
      tail -c +$(($2 + 1)) -f "$1" 3>&- &
      tails="$tails $!"
    fi
    shift 2
  done
  sleep $seconds >/dev/null 3>&- &
  { echo $! >&3; } || :
  wait $! || :
  [ -z "$tails" ] || kill -s KILL $tails || :
}

# Tells it, if anything is printed.
first_byte() {
  ! head -c 1 | grep -q '' || echo >&3
}
"""
"""Functions of a POSIX shell. The file descriptor 3 is theirs, and so are the variables `words` and `rounds`.

`rested` is for how many seconds there was no word, by no clock that somebody sets.
"""
