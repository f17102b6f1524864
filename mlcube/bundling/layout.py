"""What a bundle is made of: the members of its tar byte by byte, the seal in `oci-layout`, and the roles in its index.

Every byte of a bundle is either content that a digest covers, or follows from it: so whatever is changed is seen.
"""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from mlcube import oci
from mlcube.errors import CubeError, Damaged

__all__ = [
    "BLOBS",
    "BLOCK",
    "CUBE",
    "END",
    "INDEX",
    "INSTALL",
    "LARGEST_DOCUMENT",
    "LAYOUT",
    "ROLE",
    "Entry",
    "Index",
    "Layout",
    "Platform",
    "Seal",
    "brief",
    "decode",
    "header",
    "padding",
    "sealed",
]

BLOCK = 512
END = bytes(2 * BLOCK)
"""What a bundle ends with: nothing may follow."""
LAYOUT, INDEX, INSTALL = "oci-layout", "index.json", "install.py"
BLOBS = "blobs/sha256/"
LARGEST_DOCUMENT = 4 << 20
"""In bytes: an index or a manifest that is larger is none."""
_SHOWN = 60

ROLE = "io.mlcube.bundle.role"
"""The annotation that says what an entry of the index is in the bundle: one of the following."""
CUBE = "cube"

_Document = TypeVar("_Document")


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an image runs on."""

    architecture: str
    os: str = "linux"
    variant: str = ""


class Entry(oci.Descriptor, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A manifest in the index, with its role and name as annotations."""

    platform: Platform | None = None

    @property
    def role(self) -> str:
        """What it is in the bundle."""
        return self.annotations.get(ROLE, "")

    @property
    def name(self) -> str:
        """What it is called."""
        return self.annotations.get("org.opencontainers.image.ref.name", "")


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`index.json`: everything that is in the bundle."""

    schema_version: int = 2
    media_type: str = oci.INDEX
    manifests: tuple[Entry, ...]
    annotations: dict[str, str] = {}


class Seal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The digests of what no manifest refers to."""

    schema: Annotated[int, Meta(description="The version of this format.")] = 1
    index: Annotated[str, Meta(description="`sha256:...` of `index.json`, with the spaces at its end.")]
    install: Annotated[str | None, Meta(description="The same of `install.py`.")] = None
    since: Annotated[str | None, Meta(description="The index of the bundle that has the blobs this one lacks.")] = None
    checksum: Annotated[str, Meta(description="`sha256:...` of this object without its `checksum`.")] = ""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """`oci-layout`, as the OCI image layout wants it, with the seal of this bundle."""

    version: str = msgspec.field(name="imageLayoutVersion", default="1.0.0")
    seal: Seal = msgspec.field(name="io.mlcube.bundle")


def sealed(seal: Seal) -> Layout:
    """The layout with the seal's own checksum, which tells a seal that was changed."""
    bare = msgspec.structs.replace(seal, checksum="")
    return Layout(seal=msgspec.structs.replace(bare, checksum=oci.digest_of(oci.canonical(bare))))


def decode(content: bytes, kind: type[_Document], name: str) -> _Document:
    """A JSON document of somebody else's. Raises Damaged, in one sentence, when it is none of that kind."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise Damaged(f"`{name}` does not say what it must: {str(error)[:200]}") from None


def brief(text: str) -> str:
    """A text of somebody else's, as long as it may be in a message."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def header(name: str, size: int) -> bytes:
    """The tar header of a member: a plain file that everybody may read, of nobody and of no time."""
    encoded = name.encode()
    if len(encoded) > 100:
        raise CubeError(f"`{name}` is too long a name for a member of a bundle")
    length = b"%011o\0" % size if size < 8 << 30 else b"\x80" + size.to_bytes(11, "big")
    fields = (encoded.ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", length, b"00000000000\0")
    block = (b"".join(fields) + b"        0").ljust(257, b"\0") + b"ustar  \0"
    block = block.ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> int:
    """How many zero bytes follow content of that size."""
    return -size % BLOCK
