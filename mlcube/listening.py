"""How scripts wait for each other without looking all the time: a word cuts a pause short."""

__all__ = ["LISTENING"]

LISTENING = r"""# A word that comes through this file cuts a rest short. Where none can be made, a rest is whole.
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

# A second, and longer as time passes: after a minute five, after a quarter of an hour fifteen.
rest() {
  rounds=$((${rounds:-0} + 1))
  seconds=$((1 + rounds / 8))
  [ $seconds -le 15 ] || seconds=15
  [ -n "${words-}" ] || { sleep $seconds; return; }
  (
    asleep=
    trap 'kill $asleep' TERM
    sleep $seconds &
    asleep=$!
    wait $asleep && echo late >&3
  ) </dev/null >/dev/null 2>&1 &
  read -r word <&3
  kill $! 2>/dev/null || :
}
"""
"""Functions of a POSIX shell. The file descriptor 3 is theirs, and so are the variables `words` and `rounds`."""
