"""How an archive gets into a pod through one connection, and goes on through the next where that was cut."""

from mlcube.listening import LISTENING

__all__ = ["SENDING"]

_PIECE_MEBIBYTES = 32
"""Of so much the pod says what it was. It is kept here until then; three pieces at most."""

_SENDING = r"""# Keeps what is read, in pieces, until the pod has them.
keep() {
  listen words.keep
  number=1
  while [ ! -e over ]; do
    dd bs=1048576 count=@PIECE@ iflag=fullblock >piece.new 2>complaint.keep || {
      tail -n 1 complaint.keep >&2
      : >failed
      break
    }
    [ -s piece.new ] || break
    cksum <piece.new >"sum.$number" && mv piece.new "piece.$number"
    tell words.feed
    number=$((number + 1)) rounds=0
    while [ -e "piece.$((number - 3))" ] && [ ! -e over ] && kill -0 $$ 2>/dev/null; do rest; done
  done
  rm -f piece.new
  echo $number >ends.new && mv ends.new ends
  tell words.feed
}

# Whether this is the number after the last piece's, as far as is known.
ends_before() {
  [ -e ends ] && [ "$(cat ends)" = "$1" ]
}

# Prints the pieces from the current one on, or the rest of it, where the pod has some.
feed() {
  listen words.feed
  if [ $offset -gt 0 ]; then
    tail -c +$((offset + 1)) "piece.$piece"
    return
  fi
  rounds=0
  while [ ! -e cut ] && [ ! -e over ] && kill -0 $$ 2>/dev/null && ! ends_before $piece; do
    if [ -e "piece.$piece" ]; then
      cat "piece.$piece" || return
      piece=$((piece + 1)) rounds=0
    else
      rest
    fi
  done
}

# What the pod says it has must be what was sent, the end of a piece or all of it.
acknowledge() { # acknowledge SUM BYTES
  lines=$((lines + 1))
  [ "$2" != 0 ] || return 0
  whole=$(cat "sum.$piece")
  if [ "$whole" != "$1 $2" ] || [ $offset -gt 0 ]; then
    [ "$(tail -c +$((offset + 1)) "piece.$piece" | head -c "$2" | cksum)" = "$1 $2" ] || {
      say "error: what the pod has is not what was sent: it changed in the meantime, or on its way"
      exit 74
    }
  fi
  offset=$((offset + $2))
  [ $offset != "${whole#* }" ] || {
    rm -f "piece.$piece" "sum.$piece"
    tell words.keep
    piece=$((piece + 1)) offset=0
  }
}

# What has come there although its connection did not say so.
catch_up() { # catch_up PARCEL
  inside receive has "$1" $lines </dev/null >had 2>complaint && [ "$(tail -n 1 had)" = done ] || return
  while read -r sum bytes; do [ "$sum" = done ] || acknowledge "$sum" "$bytes"; done <had
}

connect() { # connect PARCEL
  rm -f cut said && mkfifo said
  feed | inside receive take "$1" @PIECE@ >said 2>complaint &
  sending=$!
  while read -r sum bytes; do acknowledge "$sum" "$bytes"; done <said
  : >cut
  tell words.feed
  wait $sending
}

# While the pod gets some it is connected with again at once; else there are the pauses, hours in all.
pass_on() { # pass_on PARCEL
  piece=1 offset=0 lines=0
  while :; do
    for pause in $pauses; do
      before=$lines
      if [ ! -e "passed.$1" ] || catch_up "$1"; then
        : >"passed.$1"
        ends_before $piece || connect "$1"
        ! ends_before $piece || return 0
      fi
      waited=0
      if look; then
        ! problem || exit 74
        [ "$(field receive 2)" = running ] || {
          say "error: the pod cannot receive: $(cluster logs "job/$job" --container=receive --tail=3 2>&1)"
          exit 74
        }
      fi
      [ $lines = $before ] || { pause=; break; }
      [ $pause = end ] || sleep $pause
    done
    [ $pause != end ] || {
      cat complaint >&2
      exit @LOST@
    }
  done
}
""".replace("@PIECE@", str(_PIECE_MEBIBYTES))
SENDING = LISTENING + _SENDING
"""Functions of the script of a job: `keep` reads an archive while `pass_on` sends it."""
