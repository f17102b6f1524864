"""Cubes from registries: their layers brought at the same time, and unpacked while others still arrive."""

import math
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mlcube.artifact import ARTIFACT, FILE, FILE_ZSTD, PACK, read_config
from mlcube.errors import CubeError, Damaged, Unreachable, UsageError
from mlcube.known_digests import KnownDigests
from mlcube.obtaining.admitting import admit_published
from mlcube.obtaining.asking import Asking, Progress
from mlcube.oci import Descriptor, Manifest
from mlcube.offline import offline
from mlcube.parallel import in_parallel, stopping
from mlcube.references import Reference
from mlcube.registry import Registry, Repository, suggesting
from mlcube.store import Kept, Store
from mlcube.store.building import Building
from mlcube.store.kept import read_manifest

if TYPE_CHECKING:
    from mlcube.trust.policy import Admission

__all__ = ["Asking", "from_registry"]

_AT_ONCE_BYTES = 4 << 20
"""Packs up to this size are unpacked from memory."""
_WORKERS = 2
"""How many large files come at the same time, and besides how many packs, while there are both: more of the one would
hold up the other."""


def from_registry(
    reference: Reference,
    asking: Asking,
    digest: str | None = None,
    *,
    name: str | None = None,
    zoo: str | None = None,
) -> tuple[Kept, "Admission | None"]:
    """The cube that a tag or a digest names, and who vouches for it. `digest`, of a lock, is stronger than both.

    What is kept already is verified and not asked for again; where only the tag is known, the registry says what it
    is by now.
    """
    where = Repository.parse(reference.repository or "")
    digest = digest or reference.digest
    known = reference.canonical
    if digest is None and offline():
        digest = asking.store.named(known)
        if digest is None:
            raise Unreachable(
                f"`{known}` is not kept here, and no network call may be made",
                hint="pull it once without `--offline` and CUBE_OFFLINE: cube pull " + known,
            )
    with Registry(where, check=asking.check, report=asking.report) as registry:
        resolved = digest or _resolved(registry, reference.tag or "latest")
        admission = admit_published(registry, resolved, name=name, zoo=zoo)
        kept = asking.kept(resolved)
        if kept is None:
            if offline():
                raise Unreachable(
                    f"the cube `{resolved}` of `{where}` is not kept here, and no network call may be made",
                    hint=f"pull it once without `--offline` and CUBE_OFFLINE: cube pull {known}",
                )
            kept = _brought(registry, reference, resolved, asking)
    if reference.tag and reference.digest is None and digest is None:
        asking.store.note_name(known, resolved)
    return kept, admission


def _resolved(registry: Registry, tag: str) -> str:
    with suggesting(registry, tag):
        return registry.resolve(tag).digest


def _brought(registry: Registry, reference: Reference, digest: str, asking: Asking) -> Kept:
    store = asking.store
    with suggesting(registry, digest):
        _, content = registry.manifest(digest)
    manifest = read_manifest(content, digest)
    if manifest.artifact_type != ARTIFACT:
        raise UsageError(
            f"`{reference.canonical}` is no cube, but {_called(manifest)}",
            hint="`cube publish` makes cubes of folders; an image is named in a cube's file",
        )
    needed = (digest, manifest.config.digest, *(each.digest for each in manifest.layers))
    with store.using(needed), store.lock(digest):
        # Whoever had the lock before may have brought it.
        if (kept := asking.kept(digest, told=False)) is not None:
            return kept
        store.add(content)
        config = read_config(_config(registry, manifest, store))
        _check_room(store, manifest)
        total = Progress(sum(each.size for each in manifest.layers), asking.progress)
        with KnownDigests() as known:
            bring = _Bringing(registry, asking, total, known)
            with store.build(digest, manifest, reference.canonical) as building:
                queues = [[partial(bring, layer, building) for layer in layers] for layers in _queues(manifest)]
                in_parallel(*queues, workers=_WORKERS, check=asking.check)
            _note(manifest, store, known)
    return Kept(digest=digest, root=store.folder(digest).root, manifest=manifest, config=config)


def _config(registry: Registry, manifest: Manifest, store: Store) -> bytes:
    """The configuration; one that is kept and was damaged is brought anew."""
    content: bytes | None = None
    if store.has(manifest.config.digest):
        with suppress(Damaged):
            content = store.read(manifest.config.digest)
        if content is not None:
            _check_size(manifest.config, len(content))
            return content
    content = registry.blob(manifest.config)
    store.add(content)
    return content


def _check_size(said: Descriptor, size: int) -> None:
    """What is kept already is held to what the manifest says, as what is brought."""
    if size != said.size:
        raise Damaged(f"the manifest says that `{said.digest}` has {said.size} bytes, and it has {size}")


def _check_room(store: Store, manifest: Manifest) -> None:
    """What says of itself that it is larger than the disk is not even begun."""
    from mlcube.workspace import free_bytes

    missing = 0
    for each in manifest.layers:
        if not store.has(each.digest):
            with suppress(OSError):
                missing -= os.path.getsize(f"{store.blob_path(each.digest)}.part")  # from where it is continued
            missing += each.size
    if missing > (free := free_bytes(store.path)):
        raise CubeError(
            f"the cube needs {missing:,} bytes more than are kept, and {free:,} are free at `{store.path}`",
            hint="cube cache prune, or another disk: CUBE_CACHE_DIR",
        )


def _note(manifest: Manifest, store: Store, known: KnownDigests) -> None:
    """Remember large files as they are now, with the link that was made: the next version need not read them."""
    for layer in manifest.layers:
        if layer.media_type == FILE:
            path = os.path.realpath(store.blob_path(layer.digest))
            with suppress(OSError):
                # They are read-only, and nobody has had a name for them: they are not too fresh to be believed.
                known.note(f"file:{path}", [os.stat(path)], layer.digest, layer.size, math.inf)


class _Bringing:
    """Brings one layer after the other, each in the thread that calls."""

    def __init__(self, registry: Registry, asking: Asking, progress: Progress, known: KnownDigests) -> None:
        self._registry, self._asking, self._progress, self._known = registry, asking, progress, known

    def __call__(self, layer: Descriptor, building: Building) -> None:
        store = self._asking.store
        if layer.media_type == PACK and layer.size <= _AT_ONCE_BYTES and not store.has(layer.digest):
            content = self._registry.blob(layer)
            store.add(content)
            building.add_pack(content)
            self._progress.moved(layer.size)
            return
        if not self._right(layer):
            with store.lock(layer.digest):
                if not self._right(layer):
                    self._registry.download(layer, store.made(layer.digest), self._progress.moved)
                    store.seal(layer.digest)
                else:
                    self._progress.moved(layer.size)
        else:
            self._progress.moved(layer.size)
        building.add(layer, verified=True)

    def _right(self, layer: Descriptor) -> bool:
        """Whether the blob is there, of another cube or from before; one that was damaged is removed."""
        store = self._asking.store
        if not store.has(layer.digest):
            return False
        try:
            digest, size = self._known.of_file(store.blob_path(layer.digest), stopping(self._asking.check))
        except FileNotFoundError:
            return False
        if digest == layer.digest:
            _check_size(layer, size)
            return True
        store.forget(layer.digest)
        return False


def _queues(manifest: Manifest) -> tuple[list[Descriptor], list[Descriptor]]:
    """Large files, those first that take longest; and the rest."""
    large = [each for each in manifest.layers if each.media_type in (FILE, FILE_ZSTD)]
    small = [each for each in manifest.layers if each.media_type not in (FILE, FILE_ZSTD)]
    return sorted(large, key=lambda each: -each.size), small


def _called(manifest: Manifest) -> str:
    if manifest.artifact_type:
        return f"something of the type `{manifest.artifact_type}`"
    return "a container image" if "image" in manifest.config.media_type else "something else"
