"""What lies on a volume of the cluster already: it is mounted where it is, and the rest is sent as ever."""

import os.path

import msgspec

from mlcube.invocation import Invocation, Mount
from mlcube_runners._kubernetes_far import PLACE
from mlcube_runners._staging import Staging, stage

__all__ = ["stage_beside", "within_claim"]

_CLAIM = "/cube-claim"
"""Stands for the claim's top in the paths of mounts; there is no such directory in the pod."""


def stage_beside(invocation: Invocation, claim_at: str | None) -> Staging:
    """Lay out what has to be sent; mounts of what lies below `claim_at` are left in place."""
    if claim_at is None:
        return stage(invocation, PLACE)
    top = os.path.normpath(claim_at)
    there = {mount: _in_claim(mount, top) for mount in invocation.mounts}
    sent = tuple(mount for mount, place in there.items() if place is None)
    staging = stage(msgspec.structs.replace(invocation, mounts=sent), PLACE)
    moved = iter(staging.invocation.mounts)
    mounts = tuple(place or next(moved) for place in there.values())  # in their order: one may lie in another
    return msgspec.structs.replace(staging, invocation=msgspec.structs.replace(staging.invocation, mounts=mounts))


def within_claim(path: str) -> str | None:
    """Where on the claim a path of a mount leads, from its top; None if it leads elsewhere.

    >>> within_claim("/cube-claim/data/1"), within_claim("/cube-claim"), within_claim("/elsewhere")
    ('data/1', '', None)
    """
    if path != _CLAIM and not path.startswith(f"{_CLAIM}/"):
        return None
    return path[len(_CLAIM) + 1 :]


def _in_claim(mount: Mount, top: str) -> Mount | None:
    if mount.source != top and not mount.source.startswith(f"{top.rstrip('/')}/"):
        return None
    return msgspec.structs.replace(mount, source=os.path.normpath(f"{_CLAIM}/{os.path.relpath(mount.source, top)}"))
