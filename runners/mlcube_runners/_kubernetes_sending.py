"""How files get into a pod, and what of them has to be sent once more where a connection was cut."""

import re

__all__ = ["LISTING", "SENDING"]

LISTING = r"""# A line for each of the paths and of what is in them: a file's sum, size and name, or a name. What its
# owner may not read has no sum. What nothing may be added to has two lines: while it is filled it has one.
list_all() { # list_all PATH...; `links` is -L where links are followed
  find $links "$@" -type f -perm -400 -exec cksum {} +
  find $links "$@" -type f ! -perm -400 -exec sh -c '
    set -f
    for file do set -- $(ls -ldnL "$file"); printf "0 %s %s\n" "$5" "$file"; done' sh {} +
  find $links "$@" \( -type d -o -type l -o -type p \) -print -type d ! -perm -200 -print
}
"""
"""A function of a POSIX shell with `find` and `cksum`, at both ends."""

_SENDING = r"""newline='
'

# What is to be there.
list_here() { # list_here [PATH]...
  (cd "$source" && list_all "$@") | LC_ALL=C sort
}

# Of all of it, or of what is known to be lacking.
archive() { # archive [PATH]...
  export LANGUAGE=en
  if [ ! -e "$own/lacking" ]; then
    tar -C "$source" $follow -cf - "$@"
  elif [ -n "$lists" ]; then
    tar -C "$source" $follow --no-recursion $lists -cf - -T - <"$own/lacking"
  else
    set --
    while IFS= read -r path; do set -- "$@" "$path"; done <"$own/lacking"
    tar -C "$source" $follow --no-recursion -cf - "$@"
  fi
}

# Whether `tar` has failed because nobody listened any more, or because of what changes: that its sum will tell.
excused() { # excused STATUS
  [ "$1" -ne 141 ] || return 0
  [ "$1" -eq 1 ] && [ -s "$own/unread" ] && ! grep -qvE "@CHANGES@" "$own/unread"
}

# What the pod says of what it has, `done` last.
deliver() { # deliver [PATH]...
  { archive "$@" 2>"$own/unread" || excused $? || : >"$own/failed"; } |
    inside receive unpack "$target" >"$own/had" 2>"$own/complaint" || :
  [ ! -e "$own/failed" ] || { cat "$own/unread" >&2; exit 1; }
}

# Whether everything is there; if the pod has said what is, `told` is yes, and the rest is in `missing`.
complete() {
  told=
  said=$(tail -n 1 "$own/had")
  case $said in
    done) ;;
    failed*) say "error: the pod cannot take what is sent: ${said#failed }"; exit 74 ;;
    *) return 1 ;;
  esac
  wait $listing || :
  sed '$d' "$own/had" | LC_ALL=C sort >"$own/there"
  LC_ALL=C comm -23 "$own/here" "$own/there" >"$own/missing"
  told=yes
  [ ! -s "$own/missing" ]
}

# Makes a list for `tar` of what is missing, or of everything, but for directories to which nothing may be added: a pod
# could not fill them. Without such, and where a name would be no line of it, there is none, and everything is sent.
list_lacking() { # list_lacking [PATH]...
  rm -f "$own/lacking"
  (cd "$source" && find $links "$@" -type d ! -perm -200 -print) 2>/dev/null | LC_ALL=C sort -r >"$own/locked"
  [ -n "$told" ] || [ -s "$own/locked" ] || return 0
  case $* in *"$newline"*) return 0 ;; esac
  (cd "$source" && LC_ALL=C find $links "$@" -name "*$newline*" -print) 2>/dev/null | grep -q '' && return 0
  if [ -n "$told" ]; then
    LC_ALL=C sed 's/^[0-9]* [0-9]* \././' "$own/missing"
  else
    (cd "$source" && find $links "$@" -type d -print && find $links "$@" ! -type d -print) 2>/dev/null
  fi | LC_ALL=C awk '
    BEGIN { while ((getline line <ARGV[1]) > 0) locked[line]; ARGV[1] = "" }
    !($0 in locked)
  ' "$own/locked" - >"$own/lacking"
  [ -n "$told" ] || [ -s "$own/lacking" ] || { rm "$own/lacking"; return 0; }
  for lists in --no-unquote --no-recursion ''; do
    ! tar --no-recursion $lists -cf /dev/null -T /dev/null 2>/dev/null || break
  done
  case $lists in
    --no-unquote) ;;
    --no-recursion) ! grep -qF '\' "$own/lacking" || rm "$own/lacking" ;;
    *)
      tar --no-recursion -cf /dev/null . 2>/dev/null && [ $(wc -l <"$own/lacking") -le @MOST@ ] ||
        rm "$own/lacking"
      ;;
  esac
}

mode_of() { # mode_of PATH
  ls -ldL "$source/$1" | cut -c 2-10
}

# Makes the directories to which nothing may be added what they are. It fails where something else is lacking.
close_up() {
  [ -e "$own/lacking" ] && [ ! -s "$own/lacking" ] || return 1
  while IFS= read -r path; do printf '%s %s\n' "$(mode_of "$path")" "$path"; done <"$own/locked" |
    inside receive close "$target" >"$own/had" 2>"$own/complaint" || :
}

# Sends the rest of a file that was cut. It fails where the beginning of none is there.
append() {
  [ -e "$own/lacking" ] || return 1
  cut=$(LC_ALL=C awk '
    !/^[0-9]+ [0-9]+ \.\// { next }
    { name = substr($0, length($1 " " $2 " ") + 1) }
    NR == FNR { size[name] = $2; next }
    name in size && $2 + 0 >= @LEAST@ && $2 + 0 < size[name] + 0 { print; exit }
  ' "$own/missing" "$own/there")
  sum=${cut%% *} name=${cut#* }
  bytes=${name%% *} name=${name#* }
  [ -n "$cut" ] && [ "$(head -c "$bytes" "$source/$name" | cksum)" = "$sum $bytes" ] || return 1
  mode=$(mode_of "$name") changed=$(date -r "$source/$name" +%s)
  tail -c "+$((bytes + 1))" "$source/$name" |
    inside receive append "$target" "$name" "$bytes" "$mode" "$changed" >"$own/had" 2>"$own/complaint" || :
}

read_here() { # read_here [PATH]...
  list_here "$@" >"$own/here" 2>/dev/null &
  listing=$!
}

# While the pod gets some it is connected with again at once; else there are the pauses, hours in all. Who sends once
# more, because the one before was killed, is the only one from then on.
pass_on() { # pass_on PARCEL [PATH]...
  parcel=$1 own=sending.$$ changes=0 most=0 told= links=
  shift
  [ -z "$follow" ] || links=-L
  for program in tar find cksum; do
    command -v $program >/dev/null || { say "error: there is no \`$program\` here"; exit 1; }
  done
  echo $$ >"sender.$parcel"
  rm -rf "$own" && mkdir "$own" || exit
  trap 'rm -rf "$own"' EXIT
  read_here "$@"
  while :; do
    for pause in $pauses; do
      [ "$(cat "sender.$parcel")" = $$ ] || exit @LOST@
      whole=yes told=
      if [ ! -e "passed.$parcel" ]; then
        : >"passed.$parcel"
        list_lacking "$@"
        deliver "$@"
      else
        inside receive list "$target" </dev/null >"$own/had" 2>"$own/complaint" || :
        ! complete || return 0
        if [ -n "$told" ]; then
          list_lacking "$@"
          if append; then whole=; else close_up || deliver "$@"; fi
        fi
      fi
      ! complete || return 0
      if [ "$told,$whole" = yes,yes ]; then
        changes=$((changes + 1)) pause=
        [ $changes -le 3 ] || {
          say "error: what the pod has is not what is here: it changes, or changed on its way" \
            "$(head -n 1 "$own/missing")"
          exit 74
        }
        read_here "$@"
        break
      fi
      before=$most
      [ ! -e "$own/there" ] || most=$(awk '{ sum += $2 } END { printf "%.0f", sum }' "$own/there")
      [ "$most" = "$before" ] || { pause=; break; }
      waited=0
      if look; then
        ! problem || exit 74
        [ "$(field receive 2)" = running ] || {
          say "error: the pod cannot receive: $(cluster logs "job/$job" --container=receive --tail=3 2>&1)"
          exit 74
        }
      fi
      [ $pause = end ] || sleep $pause
    done
    [ "$pause" != end ] || {
      cat "$own/complaint" >&2
      exit @LOST@
    }
  done
}
"""
_MOST_WORDS = 1000
"""How many names a `tar` without `-T` gets as words."""
_LEAST_BYTES = 1 << 20
"""A file of which less than this is there is sent anew."""
_CHANGES = (
    ": (file changed as we read it|File shrank by [0-9]+ bytes; padding with zeros|File removed before we read it"
    "|short read|socket ignored)$"
)
"""What a `tar` says of what changes."""
_WORDS = {"LEAST": str(_LEAST_BYTES), "MOST": str(_MOST_WORDS), "CHANGES": _CHANGES}
SENDING = LISTING + re.sub("@(LEAST|MOST|CHANGES)@", lambda found: _WORDS[found[1]], _SENDING)
"""Functions of the script of a job: `pass_on` sends what the variables `source`, `follow` and `target` say."""
