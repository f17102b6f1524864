"""A cube that is kept: its folder, and how that folder comes to be there all at once."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from mlcube import files, oci
from mlcube.artifact import CubeConfig, read_config
from mlcube.errors import CubeError, Damaged, lowered
from mlcube.oci import Manifest
from mlcube.store.tree import Tree
from mlcube.unpacking import Unpacking, remove
from mlcube.unpacking.folder import shown

__all__ = ["About", "Folder", "Kept", "read_manifest"]

_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_MOST_BYTES = 1 << 53
"""No file is as large, and no number of JSON that is larger is the same everywhere."""


class About(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told of a kept cube where cubes are listed."""

    digest: str
    """`sha256:...` of the manifest; `git:COMMIT`; `archive:sha256:...`."""
    bytes: int = 0
    title: str | None = None
    version: str | None = None
    origin: str | None = None
    """The address it came from first."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A cube that is whole and verified."""

    digest: str
    root: str
    """The folder with the cube's files, all of them read-only."""
    manifest: Manifest | None = None
    """None: it did not come from a registry or a bundle."""
    config: CubeConfig | None = None


def read_manifest(content: bytes, digest: str) -> Manifest:
    """A manifest that must have this digest. Raises Damaged."""
    if oci.digest_of(content) != digest:
        raise Damaged(f"the manifest `{digest}` is not what its digest says")
    wrong = f"the manifest `{digest}` is not as it must be"
    try:
        found = msgspec.json.decode(content, type=Manifest)
    except _UNREADABLE as error:
        raise Damaged(f"{wrong}: {lowered(str(error))}") from None
    for each in (found.config, *found.layers):
        if not oci.is_digest(each.digest):
            raise Damaged(f"{wrong}: `{shown(each.digest)}` is no digest")
        if not 0 <= each.size <= _MOST_BYTES:
            raise Damaged(f"{wrong}: `{each.digest}` cannot have {each.size} bytes")
    return found


class Folder:
    """Where one cube is kept: its files, and beside them what is known of them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.root = os.path.join(path, "cube")
        self.tree = Tree(self.root, os.path.join(path, "seen.json"))

    @property
    def there(self) -> bool:
        """Whether it is; it is whole then, unless somebody else has touched it since."""
        return os.path.lexists(self.path)

    def about(self) -> About:
        """What is told of it. Raises Damaged."""
        try:
            return msgspec.json.decode(self._content("about.json"), type=About)
        except _UNREADABLE as error:
            raise Damaged(f"`{self.path}/about.json` cannot be read: {lowered(str(error))}") from None

    def used(self) -> float:
        """When it was used last, or else made."""
        for path in (os.path.join(self.path, "used"), self.path):
            with suppress(OSError):
                return os.stat(path).st_mtime
        return 0.0

    def verified(self, digest: str, check: Callable[[], None], *, thorough: bool = False) -> Kept:
        """The cube, if everything is as it was; `thorough`: to the last byte. Raises Damaged."""
        with suppress(OSError):  # a store that is shared may be read-only
            os.utime(os.path.join(self.path, "used"))
        manifest = config = None
        self.about()  # without which it would not be listed
        if digest.startswith("sha256:"):
            manifest = read_manifest(self._content("manifest.json"), digest)
            content = self._content("config.json")
            if oci.digest_of(content) != manifest.config.digest:
                raise Damaged(f"`{self.path}/config.json` is not what its digest says")
            config = read_config(content)
        self.tree.verify(check, thorough=thorough)
        return Kept(digest=digest, root=self.root, manifest=manifest, config=config)

    def _content(self, name: str) -> bytes:
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                return file.read()
        except OSError as error:
            raise Damaged(f"`{self.path}/{name}` cannot be read: {(error.strerror or str(error)).lower()}") from None

    @contextmanager
    def filled(
        self, about: About, beside: dict[str, bytes], *, most_bytes: int, most_members: int, check: Callable[[], None]
    ) -> Iterator[Unpacking]:
        """A new folder that takes the place of this one when all is well, and else leaves nothing.

        The caller holds the lock of this cube: what others have left half-made is removed.
        """
        parent, name = os.path.split(self.path)
        os.makedirs(parent, exist_ok=True)
        for other in os.listdir(parent):
            if other.startswith(f".{name}."):
                remove(os.path.join(parent, other))
        new = Folder(os.path.join(parent, f".{name}.{os.getpid()}"))
        try:
            os.mkdir(new.path)
            with Unpacking(new.root, most_bytes=most_bytes, most_members=most_members, check=check) as unpacking:
                yield unpacking
                size = new.tree.record(unpacking.finish())
            for file, content in beside.items():
                files.write(os.path.join(new.path, file), content)
            about = msgspec.structs.replace(about, bytes=size)
            files.write(os.path.join(new.path, "about.json"), msgspec.json.encode(about))
            files.write(os.path.join(new.path, "used"), b"")
            if self.there:  # it was damaged
                old = f"{new.path}.old"
                os.rename(self.path, old)
                remove(old)
            os.rename(new.path, self.path)
        except OSError as error:
            raise CubeError(f"`{self.path}` cannot be made: {(error.strerror or str(error)).lower()}") from error
        finally:
            remove(new.path)
