"""`cube pull`: a cube brought to this machine, whole and verified, and nothing else."""

import os
import shlex
from typing import Any

from mlcube.cli import console
from mlcube.cli.arguments import CubeName, Json, Locked, MlcubePath, Offline
from mlcube.cli.naming import bring
from mlcube.errors import MissingInput, UsageError

EXAMPLE = """\b
Examples:
  cube pull oci://registry.example.org/digits:1.2
  cube pull git+https://host.example.org/digits//cube#v1.2
  cube pull digits
"""


def command(
    cube: CubeName = None,
    mlcube: MlcubePath = ".",
    offline: Offline = False,
    locked: Locked = False,
    as_json: Json = False,
) -> int:
    """Bring a cube here by its reference, unless it is here; print its digest and where it lies.

    What was interrupted goes on where it was. Files that other cubes have brought are not brought again.
    """
    if offline:
        from mlcube.offline import set_offline

        set_offline()
    lock = None
    if locked:
        from mlcube.pinning import read_lock

        lock = read_lock()
    text = cube or mlcube
    if lock is not None and text == ".":
        text = lock.reference
    if text == ".":
        raise UsageError("`cube pull` needs the name of a cube", hint="cube pull oci://HOST/NAME:TAG")
    found = bring(text, lock=lock, mend=True)
    if found.digest is None:
        if not os.path.exists(os.path.expanduser(text)):
            hint = "a cube in a registry is named oci://HOST/NAME:TAG"
            raise MissingInput(f"there is nothing at `{text}`, which is understood as a path", hint=hint)
        hint = f"cube run --mlcube {shlex.quote(text)}"
        raise MissingInput(f"`{text}` is understood as a path, and is here: there is nothing to pull", hint=hint)
    if as_json:
        document: dict[str, Any] = {"reference": text, "kind": found.reference.kind, "digest": found.digest}
        document |= {"path": found.root, "zoo": found.zoo}
        document |= {"image": found.config.image.pinned if found.config and found.config.image else None}
        console.document(document)
    else:
        console.result(f"{found.digest}  {found.root}")
    return 0
