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
# short is not counted. What `$!` was before is forgotten.
rest() {
  seconds=$((1 + ${rounds:-0} / 8)) word=late
  [ $seconds -le 15 ] || seconds=15
  if [ -z "${words-}" ]; then
    sleep $seconds
  else
    (
      asleep= over=
      trap 'over=yes; [ -z "$asleep" ] || kill $asleep' TERM
      sleep $seconds &
      asleep=$!
      [ -z "$over" ] || kill $asleep
      if wait $asleep; then echo late >&3; else wait $asleep; fi
    ) </dev/null >/dev/null 2>&1 &
    # Where nothing can be heard after all, this rest is whole and so are those to come.
    if read -r word <&3; then kill $! || :; else words= word=late; fi 2>/dev/null
    wait $! 2>/dev/null || :
  fi
  [ "$word" != late ] || rounds=$((${rounds:-0} + 1)) rested=$((rested + seconds))
}
"""
"""Functions of a POSIX shell. The file descriptor 3 is theirs, and so are the variables `words` and `rounds`.

`rested` is for how many seconds there was no word, by no clock that somebody sets.
"""
