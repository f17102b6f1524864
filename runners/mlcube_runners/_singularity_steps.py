"""The commands that make SIF files, as small shell scripts: what they do depends on what is there when they run."""

import os.path

from mlcube.cube import Recipe
from mlcube.plan import Command, Step, command
from mlcube.workspace import EXCLUDED

__all__ = [
    "HAS_BASE",
    "INSTALL",
    "IN_BASE",
    "IS_CURRENT",
    "IS_KEPT",
    "IS_KNOWN",
    "IS_LOCAL",
    "IS_MADE_OF",
    "KEEP",
    "KEEP_ENVIRONMENT",
    "KEEP_FUNCTION",
    "KEEP_MADE_OF",
    "KEEP_SAVED",
    "KEEP_UNPACKED",
    "KNOW",
    "LEAD_FUNCTION",
    "LINK_FILE",
    "LINK_PLACE",
    "PLAIN_DOCKERFILE",
    "SAVE",
    "SPYTHON",
    "STAMP_FUNCTION",
    "build",
    "copy_source",
    "shell",
]

LEAD_FUNCTION = """\
lead() { # a link is replaced at once, never missing
  [ "$(readlink "$place")" = "$1" ] || { ln -sfn "$1" "$new.link" && mv -T "$new.link" "$place"; }
}
"""

KEEP_FUNCTION = (
    LEAD_FUNCTION
    + """\
expected= # the digest of the SIF file, where it is known before
keep() { # what lies in $new becomes what $place leads to; $1: what it was made of
  rm -f "$new/archive" "$new/image.tar" "$new/base.sif" "$new/Dockerfile" "$new/definition"
  sum=$(sha256sum <"$new/image.sif"); sum=${sum%% *}
  [ "${expected:-$sum}" = "$sum" ] || { rm -rf "$new"; exit 1; }
  printf 'sha256:%s\\n' "$sum" >"$new/identity"
  printf '%s\\n' "$1" >"$new/source"
  for part in 1 2 3 4; do
    "$executable" sif dump "$part" "$new/image.sif" 2>/dev/null | tr -d '\\0\\n' |
      sed -n 's/.*"WorkingDir":"\\([^"]*\\)".*/\\1/p'
  done | head -n 1 >"$new/directory"
  mkdir -p "${place%/*}"
  [ -d "${place%/*}/sha256-$sum" ] || mv -T "$new" "${place%/*}/sha256-$sum" || [ -d "${place%/*}/sha256-$sum" ]
  rm -rf "$new"
  lead "sha256-$sum"
}
"""
)

KEEP = (
    KEEP_FUNCTION
    + """\
executable=$1 place=$2 new=$3 source=$4
keep "$source"
"""
)
"""EXECUTABLE PLACE NEW SOURCE"""

IS_KEPT = (
    LEAD_FUNCTION
    + """\
reference=$1 place=$2 new=$3; shift 3
for builder; do
  id=$("$builder" image inspect --format '{{.Id}}' "$reference" 2>/dev/null) || continue
  [ -s "${place%/*}/image-${id#sha256:}/image.sif" ] && lead "image-${id#sha256:}"; exit
done
"""
)
"""REFERENCE PLACE NEW BUILDER...: one conversion serves all names of an image; what is not here needs none."""

SAVE = """\
reference=$1 new=$2; shift 2
for builder; do
  "$builder" image inspect --format '{{.Id}}' "$reference" >"$new/source" 2>/dev/null || continue
  exec "$builder" save --output "$new/image.tar" "$reference"
done
exit 1
"""
"""REFERENCE NEW BUILDER..."""

KEEP_SAVED = (
    KEEP_FUNCTION
    + """\
executable=$1 of=$2 new=$3; id=$(cat "$new/source"); id=${id#sha256:}
place=${of%/*}/image-$id
keep "$id"
place=$of
lead "image-$id"
"""
)
"""EXECUTABLE PLACE NEW"""

IS_LOCAL = """\
reference=$1; shift
for builder; do "$builder" image inspect "$reference" >/dev/null 2>&1 && exit; done
exit 1
"""
"""REFERENCE BUILDER..."""

IS_CURRENT = """\
reference=$1 place=$2; shift 2
for builder; do
  id=$("$builder" image inspect --format '{{.Id}}' "$reference" 2>/dev/null) || continue
  [ -s "$place/image.sif" ] && read -r source <"$place/source" && [ "$source" = "${id#sha256:}" ] || exit 1
  break
done
[ -s "$place/image.sif" ] && cat "$place/identity"
"""
"""REFERENCE PLACE BUILDER...: the SIF file was made of the image that has this name now. Tells which it is."""

_SOURCE = """\
made_of() { sum=$(cksum <"$1") && printf '%s\\n' "$sum $1"; }
"""

IS_MADE_OF = _SOURCE + '[ -s "$2/image.sif" ] && [ "$(cat "$2/source")" = "$(made_of "$1")" ]'
"""FILE PLACE"""

KEEP_MADE_OF = (
    KEEP_FUNCTION
    + _SOURCE
    + """\
executable=$1 place=$2 new=$3 file=$4
keep "$(made_of "$file")"
"""
)
"""EXECUTABLE PLACE NEW FILE"""

SPYTHON = "from spython.client import main; main()"
"""What its own command runs, wherever that lies."""

PLAIN_DOCKERFILE = """\
if grep -qi '^[[:space:]]*ENTRYPOINT' "$1"; then cmd='[Cc][Mm][Dd]'; else cmd='[Uu][Ss][Ee][Rr]'; fi
sed -e '/^[[:space:]]*[Uu][Ss][Ee][Rr][[:space:]]/d' -e "/^[[:space:]]*$cmd[[:space:]]/d" "$1" >"$2"
"""
"""FILE TARGET: as with Docker, arguments replace CMD, and the task is the caller whoever USER names."""

STAMP_FUNCTION = """\
stamp() { exec stat -Lc %.9Y-%s -- "$1"; }
"""
"""Changes with a file, also twice in a second. Only for `$(stamp FILE)`: it replaces the shell that calls it."""

_BASE = (
    STAMP_FUNCTION
    + """\
base_of() { cat "${1%/*}/identity" 2>/dev/null || stamp "$1"; }
"""
)

HAS_BASE = _BASE + '[ "$(cat "$2/base" 2>/dev/null)" = "$(base_of "$1")" ]'
"""SIF PLACE: the environment was made with the base image as it is now."""

INSTALL = """\
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
  eval "[ -z \\"\\${$name-}\\" ] || export APPTAINERENV_$name=\\"\\$$name\\" SINGULARITYENV_$name=\\"\\$$name\\""
done
exec "$@"
"""
"""EXECUTABLE ARGUMENT...: how packages are reached is the host's business; nothing else of its environment is seen."""

IN_BASE = """\
python -m venv --system-site-packages --without-pip /mlcube/environment
directory=$(/mlcube/environment/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python -c 'import site; print(*site.getsitepackages(), sep="\\n")' >"$directory/of_the_image.pth"
/mlcube/environment/bin/python -m pip install --no-cache-dir --disable-pip-version-check \\
  --requirement /mlcube/requirements.txt
"""
"""Also where the image's own Python is one of a virtual environment, its packages stay in sight."""

KEEP_ENVIRONMENT = (
    LEAD_FUNCTION
    + _BASE
    + """\
base=$1 place=$2 new=$3
(base_of "$base") >"$new/base"
content=${place##*/}-$(cksum <"$new/base" | tr ' ' -)
chmod -R a+rX "$new/environment"
rm -rf "$new/scratch" "$new/requirements.txt"
mv -T "$new" "${place%/*}/$content" || [ -d "${place%/*}/$content" ]
rm -rf "$new"
lead "$content"
"""
)
"""SIF PLACE NEW"""

LINK_FILE = (
    LEAD_FUNCTION
    + STAMP_FUNCTION
    + """\
file=$1 place=$2 new=$3
[ -f "$file" ] || exit 1
content=file-${place##*-}-$(stamp "$file")
if [ ! -d "${place%/*}/$content" ]; then
  mkdir -p "$new" && ln -s "$file" "$new/image.sif" && mv -T "$new" "${place%/*}/$content" || exit 1
fi
lead "$content"
"""
)
"""FILE PLACE NEW: a SIF file of the user's own, under a place in the cache."""

IS_KNOWN = STAMP_FUNCTION + 'read -r sum <"$2-$(stamp "$1")" && echo "$sum"\n'
"""FILE IDENTITY: prints the digest of a SIF file of the user's own, as long as the file is the one that was read."""

KNOW = (
    STAMP_FUNCTION
    + """\
target=$2-$(stamp "$1")
mkdir -p "${2%/*}"
sha256sum <"$1" >"$3.identity"
mv -T "$3.identity" "$target"
"""
)
"""FILE IDENTITY NEW: reading a large file takes long, so it is done once."""

LINK_PLACE = (
    LEAD_FUNCTION
    + """\
other=$1 place=$2 new=$3
lead "${other##*/}"
"""
)
"""OTHER PLACE NEW"""

KEEP_UNPACKED = """\
mv -T "$2/root" "$1/root" || [ -d "$1/root" ]
rm -rf "$2"
"""
"""PLACE NEW"""


def shell(script: str, *words: str) -> Command:
    """A script of this module, which stops at what fails, with its words."""
    return command("sh", "-ec", script, "sh", *words)


def build(builder: str, reference: str, recipe: Recipe) -> Command:
    """Build a Dockerfile where something can."""
    values = (f"--build-arg={name}={value}" for name, value in recipe.arguments.items())
    return command(builder, "build", f"--tag={reference}", f"--file={recipe.file}", *values, recipe.context)


def copy_source(source: str, target: str, new: str) -> tuple[Step, ...]:
    """The code of a `python:` cube, through tar, which can leave things out; readable by whoever shares the cache."""
    excluded = tuple(f"--exclude={pattern}" for pattern in EXCLUDED)
    here = Command(argv=("tar", "-cf", "source.tar", *excluded, "-C", source, "."), directory=new)
    return (
        command("mkdir", "-p", "--", f"{new}/source"),
        here,
        Command(argv=("tar", "-xf", "source.tar", "-C", "source"), directory=new),
        command("chmod", "-R", "a+rX", f"{new}/source"),
        command("mkdir", "-p", "--", os.path.dirname(target)),
        command("sh", "-c", 'mv -T "$1/source" "$2" || [ -d "$2" ]', "sh", new, target),
        command("rm", "-rf", "--", new),
    )
