"""The POSIX script beside an unpacked root file system that starts programs in it.

Written once, when the image is unpacked, because only then is it known what the image itself says: its environment,
its entrypoint, its directory. It is a script, so that a machine that gets the unpacked image needs nothing else.
"""

import shlex
from collections.abc import Mapping
from typing import Any

__all__ = ["launcher"]

_DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SCRIPT = """\
#!/bin/sh
# launch BWRAP FOLDER image|task OPTION... -- WORD...
# Starts a program in the root file system beside this file. FOLDER gets what bubblewrap reads, and the number of the
# process. The root is an empty one, into which the image's directories are mounted: so a mount can have a place that
# the image has not, and nothing is ever written into the image.
_bwrap=$1 _folder=$2 _whose=$3
shift 3
PATH=/usr/bin:/bin
cd -P -- "${{0%/*}}/root" || exit 125
_root=$PWD
_split=// _mounted=// _directory={directory}

fail() {{ printf 'error: %s\\n' "$1" >&2; exit 125; }}
emit() {{ printf '%s\\0' "$@"; }}

# Where a link of the image leads; those of its topmost directory are known.
link() {{
  case $1 in
{links}  *) _target=$(readlink "$_root$1" && echo .) || fail "\\`$1\\` of the image cannot be read"
     _target=${{_target%??}} ;;
  esac
}}

# Sets `_place` to where a mount goes when the image's links are followed. If the image has nothing there, the directory
# above is split: made anew, with what the image has in it mounted piece by piece.
find_place() {{
  _rest=${{1#/}} _at= _links=0
  while [ -n "$_rest" ]; do
    _name=${{_rest%%/*}}
    case $_rest in */*) _rest=${{_rest#*/}} ;; *) _rest= ;; esac
    case $_name in "" | .) continue ;; ..) _at=${{_at%/*}}; continue ;; esac
    _next=$_at/$_name
    case $_mounted in *"//$_next//"*) _place=$_next${{_rest:+/$_rest}}; return ;; esac
    if [ -L "$_root$_next" ]; then
      _links=$((_links + 1))
      [ $_links -le 40 ] || fail "\\`$1\\` goes through too many links of the image"
      link "$_next"
      case $_target in /*) _at= ;; esac
      _rest=$_target${{_rest:+/$_rest}}
    elif [ -e "$_root$_next" ]; then
      _at=$_next
    else
      [ -d "$_root$_at" ] || fail "\\`$_at\\` of the image is a file, so that nothing can be mounted at \\`$1\\`"
      _place=$_next${{_rest:+/$_rest}}
      while [ -n "$_at" ]; do _split=$_split$_at//; _at=${{_at%/*}}; done
      return
    fi
  done
  _place=$_at
}}

# What the image has in a directory, mounted piece by piece.
populate() {{
  for _entry in "$_root$1"/* "$_root$1"/.[!.]* "$_root$1"/..?*; do
    _entry=${{_entry#"$_root"}}
    case $_entry in /proc | /dev | /tmp) continue ;; esac
    if [ -L "$_root$_entry" ]; then
      link "$_entry"
      emit --symlink "$_target" "$_entry"
    elif [ -d "$_root$_entry" ]; then
      case $_split in
      *"//$_entry//"*) emit --dir "$_entry"; populate "$_entry" ;;
      *) emit --ro-bind "$_root$_entry" "$_entry" ;;
      esac
    elif [ -e "$_root$_entry" ]; then
      emit --ro-bind "$_root$_entry" "$_entry"
    fi
  done
}}

while [ "$1" != -- ]; do
  case $1 in
  --bind | --ro-bind | --ro-bind-try)
    find_place "$3"
    emit "$1" "$2" "$_place"
    _mounted=$_mounted$_place//
    shift 3 ;;
  --setenv) emit "$1" "$2" "$3"; shift 3 ;;
  --chdir) _directory=$2; shift 2 ;;
  *) emit "$1"; shift ;;
  esac
done >"$_folder/options"
shift
{{
  emit {environment} --chdir "$_directory"
  populate ""
}} >"$_folder/image"
if [ "$_whose" = image ]; then
{entrypoint}fi
exec "$_bwrap" --args 3 --args 4 --info-fd 5 -- "$@" 3<"$_folder/image" 4<"$_folder/options" 5>"$_folder/started"
"""


def launcher(configuration: Mapping[str, Any], links: Mapping[str, str]) -> str:
    """The script for an image: its configuration, and where the links in its topmost directory lead."""
    variables = dict(
        entry.partition("=")[::2] for entry in [_DEFAULT_PATH, *(configuration.get("Env") or ())] if entry.find("=") > 0
    )
    options = [word for name, value in variables.items() for word in ("--setenv", name, value)]
    known = "".join(f"  {shlex.quote(name)}) _target={shlex.quote(target)} ;;\n" for name, target in links.items())
    entrypoint = [str(word) for word in configuration.get("Entrypoint") or ()]
    default = [str(word) for word in configuration.get("Cmd") or ()]
    words = "" if not default else f"  [ $# -gt 0 ] || set -- {shlex.join(default)}\n"
    words += f'  set -- {shlex.join(entrypoint)} "$@"\n' if entrypoint else "  :\n"
    directory = shlex.quote(str(configuration.get("WorkingDir") or "/"))
    return _SCRIPT.format(links=known, environment=shlex.join(options), directory=directory, entrypoint=words)
