"""Makes one bundle of parts, of a later bundle and the earlier one that it builds on, or parts of one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from mlcube import locks
from mlcube.bundling.layout import Entry
from mlcube.bundling.parts import Output
from mlcube.bundling.reading import Bundle
from mlcube.bundling.writing import Writer
from mlcube.errors import UsageError

__all__ = ["join"]


def join(
    paths: Sequence[str], target: str, *, part_size: int | None = None, check: Callable[[], None] = lambda: None
) -> tuple[str, ...]:
    """Write the bundle that the last of `paths` is, with what it lacks out of those before it. Gives the files' names.

    Raises UsageError when what it builds on is not among them.
    """
    with ExitStack() as stack:
        bundles = [stack.enter_context(Bundle(path)) for path in paths]
        newest = bundles[-1]
        _follow_each_other(bundles)
        stack.enter_context(locks.exclusive(f"{target}.lock", target=target, hint="-o names another place"))
        output = stack.enter_context(Output(target, part_size))
        install = newest.install_script() if newest.seal.install else None
        writer = Writer(output, newest.index.manifests, install=install, check=check)
        places = _places(bundles)
        for entry in newest.index.manifests:
            _copy(writer, places, entry)
        return writer.finish(newest.index.manifests)


def _follow_each_other(bundles: Sequence[Bundle]) -> None:
    """Each builds on the one before it, and the first on none."""
    for position, bundle in enumerate(bundles):
        wanted = bundle.seal.since
        before = bundles[position - 1].digest if position else None
        if wanted is not None and before != wanted:
            named = f", and `{bundles[position - 1].path}` is another" if position else ""
            hint = f"cube bundle join OLD.cube {bundle.path} -o WHOLE.cube"
            raise UsageError(f"`{bundle.path}` builds on the bundle `{wanted}`{named}", hint=hint)
        if wanted is None and position:
            raise UsageError(f"`{bundle.path}` builds on no other bundle", hint=f"name it alone: {bundle.path}")


def _places(bundles: Sequence[Bundle]) -> dict[str, Bundle]:
    """Which bundle holds a blob; the newest, where several do."""
    return {digest: bundle for bundle in bundles for digest in bundle.digests}


def _copy(writer: Writer, places: dict[str, Bundle], entry: Entry) -> None:
    """What a manifest refers to, then the manifest."""
    holder = places.get(entry.digest)
    if holder is None:
        raise UsageError(f"`{entry.digest}` is in none of the bundles", hint="see `cube bundle verify` of each")
    manifest = holder.manifest(entry.digest)
    for digest in (*(layer.digest for layer in manifest.layers), manifest.config.digest, entry.digest):
        if writer.has(digest):
            continue
        source = places.get(digest)
        if source is None:
            raise UsageError(f"`{digest}` is in none of the bundles", hint="see `cube bundle verify` of each")
        pieces = source.chunks(digest)
        writer.stream(Chunks(pieces), source.size_of(digest))
        next(pieces, None)  # at the end the bundle says whether it was this blob, by the name of its file


class Chunks:
    """Pieces of content, as something to read from."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer, or less of it."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
