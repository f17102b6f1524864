"""How Docker's and Podman's images get from this host to another one."""

import sys
from typing import Literal

from mlcube.plan import Command, command
from mlcube.runner import Host, Transfer

__all__ = ["image_transfer"]

# What was sent is noted beside the id that it then had: an image that came otherwise is not ours to change.
_THERE = """\
now=$("$1" image inspect --format '{{.Id}}' "$2" 2>/dev/null) || exit 1
[ -n "$4" ] && [ -e "$3" ] && read -r sent kept <"$3" || exit 0
[ "$kept" != "$now" ] || [ "$sent" = "$4" ]
"""
"""ENGINE IMAGE MARK WORD"""

_WHOLE = """\
here=$("$1" image inspect --format '{{.Id}}' "$2")
printf '%s archive\\n' "$here"
exec "$1" save "$2"
"""
"""ENGINE IMAGE"""

_IN_PART = """\
engine=$1 image=$2
shift 2
own=$("$engine" image inspect --format '{{.Id}} {{json .RootFS.Layers}}' "$image")
{ printf '%s\\n' "$own" && cat && echo && "$engine" save "$image"; } | "$@"
"""
"""ENGINE IMAGE THIN..."""

# With the store of containerd, Docker takes an archive without some layers for an image without them.
_KNOWN = """\
case $("$1" info --format '{{json .DriverStatus}}' 2>/dev/null) in *io.containerd.snapshotter*) exit ;; esac
"$1" image ls --quiet --no-trunc | sort -u | xargs "$1" image inspect --format '{{json .RootFS.Layers}}'
"""
"""ENGINE"""

_LOAD = """\
engine=$1 image=$2 mark=$3
read -r here form
mkdir -p "${mark%/*}"
if [ "$form" = directory ]; then
  new=$(mktemp -d "${mark%/*}/new-XXXXXX")
  trap 'rm -rf "$new"' EXIT
  trap 'exit 1' HUP INT TERM
  tar -xof - -C "$new"
  id=$("$engine" pull --quiet "dir:$new/image")
  while read -r name; do "$engine" tag "$id" "$name"; done <"$new/names"
else
  "$engine" load --quiet
fi
now=$("$engine" image inspect --format '{{.Id}}' "$image")
printf '%s %s\\n' "$here" "$now" >"$mark.$$" && mv "$mark.$$" "$mark"
"""
"""ENGINE IMAGE MARK"""


def image_transfer(
    engine: Literal["docker", "podman"], image: str, executable: str, form: Literal["archive", "directory"], host: Host
) -> Transfer | None:
    """Save and load through a connection, without the layers that are there. Here, the engine has its usual name.

    `form`: what the engine makes an image of when some of its layers are missing.
    """
    cache = (host.get("caller") or {}).get("cache")
    if cache is None or "@" in image:  # what a digest names was in a registry, and has no name once it is saved
        return None
    mark = f"{cache}/sent/{engine}-{_file_name(image)}"
    module = (sys.executable or "python3", "-m", "mlcube_runners._thin_archive", form)
    in_part = ("sh", "-ec", _IN_PART, "sh", engine, image, *module)
    return Transfer(
        name=image,
        here=command(engine, "image", "inspect", "--format", "{{.Id}}", image),
        there=command("sh", "-c", _THERE, "sh", executable, image, mark),
        content=command("sh", "-ec", _WHOLE, "sh", engine, image),
        load=command("sh", "-ec", _LOAD, "sh", executable, image, mark),
        known=command("sh", "-c", _KNOWN, "sh", executable),
        # In the topmost directory, because Python imports from where it stands, and a cube may lie there.
        difference=Command(argv=in_part, directory="/"),
    )


def _file_name(image: str) -> str:
    """To be recognised, and with a digest that keeps like ones apart."""
    from hashlib import sha256

    plain = "".join(character if character.isalnum() and character.isascii() else "-" for character in image)
    return f"{plain[-60:].lstrip('-')}-{sha256(image.encode()).hexdigest()[:12]}"
