"""How an unpacked image gets to another host, which need have nothing but bubblewrap, a shell and tar."""

from mlcube.invocation import Invocation
from mlcube.plan import command
from mlcube.runner import Host, Transfer
from mlcube_runners._sandbox_images import configure, image_folder, prepare

__all__ = ["sandbox_transfer"]

_WORD = 'cd -P -- "$1" && [ -e launch ] && printf "%s\\n" "${PWD##*/}"'
"""REFERENCE"""

_REFER = """\
refer() { # a link is replaced at once, never missing
  mkdir -p -- "${reference%/*}"
  ln -sfn -- "../images/$here" "${reference%/*}/.${reference##*/}-$$"
  mv -T -- "${reference%/*}/.${reference##*/}-$$" "$reference"
}
"""

_THERE = (
    _REFER
    + """\
reference=$1 store=${1%/references/*} here=$2
now=$(readlink -- "$reference") || now=
if [ -n "$now" ] && [ -e "$reference/launch" ]; then
  [ -n "$here" ] && [ "${now##*/}" != "$here" ] || exit 0
fi
[ -n "$here" ] && [ -e "$store/images/$here/launch" ] || exit 1
refer
"""
)
"""REFERENCE WORD"""

# The description comes last, so that what was cut is known by its missing.
_PACK = """\
cd -P -- "$1"
printf '%s\\n' "${PWD##*/}"
exec tar -cf - root launch image.json
"""
"""REFERENCE"""

_UNPACK = (
    _REFER
    + """\
reference=$1 store=${1%/references/*}
read -r here
umask 077
mkdir -p -- "$store/images"
new=$(mktemp -d "$store/images/.new-XXXXXX")
trap 'chmod -R u+rwX "$new" 2>/dev/null || :; rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
tar -xpof - -C "$new"
[ -s "$new/image.json" ]
mv -T -- "$new" "$store/images/$here" 2>/dev/null || [ -e "$store/images/$here/launch" ]
refer
"""
)
"""REFERENCE"""


def sandbox_transfer(invocation: Invocation, host: Host, archive: str | None, *, anew: bool) -> Transfer:
    """What was unpacked here, packed again: unpacking an image needs our own Python, and another host may have none."""
    here = host.get("here") or {}
    make, there = ((configure if anew else prepare)(invocation, side, archive) for side in (here, host))
    source, target = (image_folder(invocation, side, archive) for side in (here, host))
    return Transfer(
        name=archive or invocation.image or "",
        here=command("sh", "-c", _WORD, "sh", source),
        there=command("sh", "-ec", _THERE, "sh", target),
        content=command("sh", "-ec", _PACK, "sh", source),
        load=command("sh", "-ec", _UNPACK, "sh", target),
        make=make.steps,
        clean=make.always,
        covers=len(there.steps),
        alone=True,
    )
