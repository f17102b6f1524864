"""How a SIF file gets to another host: as it is, or as an archive that is converted there."""

import os.path
from hashlib import sha256
from typing import Any

import msgspec

from mlcube.invocation import Invocation
from mlcube.plan import Unless
from mlcube.runner import Folder, Host, Transfer
from mlcube_runners import _singularity_steps as steps
from mlcube_runners._singularity_cache import Cache
from mlcube_runners._singularity_images import find_base

__all__ = ["singularity_transfer"]

_WORD = (
    steps.STAMP_FUNCTION
    + """\
path=$1 kept=$2 place=$3 reference=$4; shift 4
if [ -n "$path" ] && [ -e "$path" ]; then
  read -r sum _ 2>/dev/null <"$kept-$(stamp "$path")" && echo "sha256-$sum" || echo unknown
  exit
fi
[ -z "$reference" ] || for builder; do
  id=$("$builder" image inspect --format '{{.Id}}' "$reference" 2>/dev/null) || continue
  echo "image-${id#sha256:}"; exit
done
[ -s "$place/image.sif" ] && read -r sum <"$place/identity" && echo "sha256-${sum#sha256:}"
"""
)
"""PATH KEPT PLACE REFERENCE BUILDER...: the name of the image's directory, wherever it is sent."""

_IS_SENT = (
    steps.LEAD_FUNCTION
    + """\
place=$1 new=$2 here=$3
if [ -s "$place/image.sif" ]; then
  [ -n "$here" ] && [ -e "$place.sent" ] && read -r sent <"$place.sent" || exit 0
  [ "$(readlink "$place")" = "$sent" ] && [ "$here" != "$sent" ] || exit 0
fi
[ -n "$here" ] && [ -s "${place%/*}/$here/image.sif" ] || exit 1
lead "$here"
echo "$here" >"$place.sent"
"""
)
"""PLACE NEW WORD: what was made there is left alone; what was sent is there only as long as it is the same here."""

_KEEPING = (
    steps.KEEP_FUNCTION
    + """\
keep_sent() {
  of=$place
  case $here in image-*) place=${of%/*}/$here ;; esac
  keep "${here#*-}"
  place=$of
  lead "$here"
  echo "$here" >"$place.sent"
}
"""
)

_KEEP_SENT = (
    _KEEPING
    + """\
executable=$1 place=$2 new=$3 name=$4 here=$5
if [ "$(readlink "$place")" = "$here" ] && [ -s "$place/image.sif" ]; then exit; fi # it was done, and nobody heard
[ "$name" = image.sif ] || mv "$new/$name" "$new/image.sif"
case $here in sha256-*) expected=${here#*-} ;; *) expected=$(cut -d: -f2 "$new/identity") ;; esac
rm -rf "$new/.cube-partial"
keep_sent
"""
)
"""EXECUTABLE PLACE NEW NAME WORD"""

_SAVE = """\
reference=$1; shift
for builder; do
  id=$("$builder" image inspect --format '{{.Id}}' "$reference" 2>/dev/null) || continue
  echo "image-${id#sha256:}"
  exec "$builder" save "$reference"
done
exit 1
"""
"""REFERENCE BUILDER..."""

_CONVERT_SENT = (
    _KEEPING
    + """\
executable=$1 place=$2 new=$3
read -r here
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$new"
cat >"$new/image.tar"
cd "$new"
"$executable" build --force image.sif docker-archive:image.tar </dev/null
keep_sent
"""
)
"""EXECUTABLE PLACE NEW: where nothing can convert an image before it is sent."""


def singularity_transfer(invocation: Invocation, there: Cache, host: Host, *, anew: bool) -> Transfer | None:
    """The image of a task from the cache of this host to that of another one; None if it cannot be had here."""
    here = host.get("here") or {}
    cache = _cache_here(here, there, anew=anew)
    built = anew and invocation.recipe is not None and invocation.strategy != "pull"
    if cache is None or built:
        return None
    # Where it must be unpacked, that is done there in any case.
    target = find_base(invocation, msgspec.structs.replace(there, unpack=False))
    image = find_base(invocation, cache)
    if target.place is None:  # a file that the other host has
        return None
    path, reference = (image.path or "") if target.path else "", image.reference or ""
    kept = cache.identity(path) if path else ""
    word = steps.shell(_WORD, path, kept, image.place or "", reference, *cache.builders)
    new = f"{target.place}.{_sender(here)}.sending"
    transfer = Transfer(
        name=image.name,
        here=word,
        there=steps.shell(_IS_SENT, target.place, new),
        content=steps.shell(_SAVE, reference, *cache.builders),
        load=steps.shell(_CONVERT_SENT, there.executable, target.place, new),
        covers=len(target.steps),
    )
    if not cache.executable and image.place is not None:
        return transfer if reference and cache.builders else None
    folder, name = os.path.split(image.sif)
    make = image.steps
    if path and image.place is not None:
        known = steps.shell(f'[ -e "$1" ] || exit 0; {steps.IS_KNOWN}', path, kept)
        make = (*make, Unless(probe=known, steps=(steps.shell(steps.KNOW, path, kept, cache.new),)))
    return msgspec.structs.replace(
        transfer,
        content=Folder(source=folder, names=(name, "identity") if image.place else (name,), target=new),
        load=steps.shell(_KEEP_SENT, there.executable, target.place, new, name),
        make=make,
        clean=image.always,
        sooner=bool(path),
        alone=image.place is None,
    )


def _cache_here(here: dict[str, Any], there: Cache, *, anew: bool) -> Cache | None:
    engine, sources = here.get("singularity") or {}, here.get("image_sources") or {}
    if not engine.get("cache"):
        return None
    return Cache(
        directory=f"{engine['cache']}/images",
        executable=engine.get("executable") or "",
        builders=tuple(sources.get("builders", ())),
        spython=sources.get("spython"),
        unpack=False,
        run_id=there.run_id,
        anew=anew,
    )


def _sender(here: dict[str, Any]) -> str:
    """Two hosts that send the same image at once must not write the same files."""
    return sha256(repr(sorted((here.get("caller") or {}).items())).encode()).hexdigest()[:12]
