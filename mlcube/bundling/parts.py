"""A bundle's file, which may have been cut into parts, as one run of bytes: read at a place, or written in order."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlcube.errors import CubeError, Damaged, MissingInput

__all__ = ["Input", "Output", "first_part", "part_name"]

_WRITTEN_BYTES = 512 << 10
"""Larger pieces come slowly to a virtual machine (see `mlcube.files`); smaller ones take turns too often, where several
threads write to one file."""
_NUMBER = re.compile(r"\.(\d{3,})$")


def part_name(path: str, number: int) -> str:
    """The name of a part, counted from 1: `model.cube.001`. A shell lists them in their order."""
    return f"{path}.{number:03}"


def first_part(path: str) -> str:
    """The file that was named, or the first part where only parts are there."""
    return part_name(path, 1) if not os.path.exists(path) and os.path.exists(part_name(path, 1)) else path


class Input:
    """Reads a bundle: one file, or the first of its parts and those beside it that follow."""

    def __init__(self, path: str) -> None:
        self.path = first_part(path)
        self.size = 0
        self.parts: tuple[str, ...] = ()
        self._files: list[tuple[int, int, int]] = []
        """Where each begins, its size and its descriptor."""
        try:
            self._open(self.path)
            found = _NUMBER.search(self.path)
            if found and int(found[1]) == 1:
                whole, number = self.path[: found.start()], 2
                while os.path.exists(part_name(whole, number)):
                    self._open(part_name(whole, number))
                    number += 1
        except BaseException:
            self.close()
            raise

    def read(self, place: int, size: int) -> bytes:
        """`size` bytes from a place on. Raises Damaged when the file ends before."""
        buffer = bytearray(size)
        self.read_into(place, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, place: int, buffer: memoryview) -> None:
        """Fill the buffer from a place on."""
        wanted = len(buffer)
        while buffer:
            count = self._read(place, buffer)
            if not count:
                raise Damaged(f"`{self.path}` ends too early: at byte {place:,}, where more must be", hint=self.hint())
            place, buffer = place + count, buffer[count:]
            if wanted == count:
                return

    @property
    def is_later_part(self) -> bool:
        """Whether the name is that of a part, and not of the first one."""
        found = _NUMBER.search(self.path)
        return found is not None and int(found[1]) != 1

    def hint(self) -> str:
        """What may be missing."""
        if _NUMBER.search(self.path):
            whole = _NUMBER.sub("", self.path)
            if self.is_later_part:
                return f"name the first of its parts, with the others beside it: `{part_name(whole, 1)}`"
            following = part_name(whole, len(self.parts) + 1)
            return f"all its parts must lie beside each other; the next would be `{following}`"
        return "copy it once more from where it was made"

    def real_path(self) -> str | None:
        """Where the first of its files lies, behind every link; None where a name leads by now to another than is open.

        A link may be turned while it is followed: whoever judges a bundle by its name judges what is read.
        """
        places = [os.path.realpath(part) for part in self.parts]
        opened = zip(places, self._files, strict=True)
        return places[0] if all(_is(place, descriptor) for place, (_, _, descriptor) in opened) else None

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            os.close(self._files.pop()[2])

    def __enter__(self) -> "Input":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, place: int, buffer: memoryview) -> int:
        for begin, size, descriptor in self._files:
            if begin <= place < begin + size:
                try:
                    return os.preadv(descriptor, [buffer[: begin + size - place]], place - begin)
                except OSError as error:
                    raise CubeError(f"`{self.path}` cannot be read: {error.strerror}") from error
        return 0

    def _open(self, path: str) -> None:
        import stat

        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise MissingInput(f"there is no bundle `{path}`", hint="a bundle is a file, as `model.cube`") from None
        except OSError as error:
            raise CubeError(f"`{path}` cannot be read: {error.strerror}") from error
        found = os.fstat(descriptor)
        self._files.append((self.size, found.st_size, descriptor))
        if not stat.S_ISREG(found.st_mode):
            raise MissingInput(f"`{path}` is no file", hint="a bundle is a file, as `model.cube`")
        self.size += found.st_size
        self.parts += (path,)


def _is(path: str, descriptor: int) -> bool:
    """Whether a path that holds no link is that of an open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


class Output:
    """Writes a file, or parts of a size, under names that are not yet theirs; `keep` gives them their own.

    Whoever writes holds the lock of the path, so what lies under the passing names is of somebody who was killed.
    """

    def __init__(self, path: str, part_size: int | None = None) -> None:
        self.path, self.part_size = path, part_size
        self.place = 0
        """Where the next byte goes."""
        self._files: list[int] = []
        self._closed = False
        with self._writing():
            _remove_passing(path)

    def write(self, content: bytes | bytearray | memoryview) -> None:
        """Write what comes next."""
        self.place = self.write_at(self.place, content)

    def write_at(self, place: int, content: bytes | bytearray | memoryview) -> int:
        """Write at a place that was written before, or right after it; gives the place after that."""
        rest = memoryview(content)
        with self._writing():
            while rest:
                number, offset = divmod(place, self.part_size) if self.part_size else (0, place)
                while number >= len(self._files):
                    self._files.append(self._create(len(self._files)))
                room = len(rest) if self.part_size is None else self.part_size - offset
                count = os.pwrite(self._files[number], rest[: min(room, _WRITTEN_BYTES)], offset)
                place, rest = place + count, rest[count:]
        return place

    def go_to(self, place: int) -> None:
        """What comes next belongs there: what was written behind it is forgotten, what lies before it was written."""
        self.place = place

    def keep(self) -> tuple[str, ...]:
        """Everything is written: the files get their names, the first of several last. Gives the names."""
        self._shorten()
        count = len(self._files)
        names = [part_name(self.path, number + 1) for number in range(count)] if self.part_size else [self.path]
        with self._writing():
            replaced = self._replaced(count) if self.part_size else []
            for name in (*names, *replaced):
                if os.path.isdir(name):
                    raise CubeError(f"`{name}` is a folder, and a bundle is a file", hint="-o names another place")
            for name in replaced:
                with suppress(FileNotFoundError):
                    os.unlink(name)
            for number, name in reversed(list(enumerate(names))):
                os.replace(self._passing(number), name)
        return tuple(names)

    def close(self) -> None:
        """Let go of everything; what was not kept is removed, and nothing can be written any more."""
        self._closed = True
        while self._files:
            os.close(self._files.pop())
            with suppress(FileNotFoundError):  # a folder that cannot be listed is known to hold these
                os.unlink(self._passing(len(self._files)))
        with self._writing():
            _remove_passing(self.path)

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _replaced(self, last: int) -> list[str]:
        """What a reader would take instead of the new parts, or for parts of theirs; nothing else is ours to remove.

        The first part, without which there is no bundle, then a whole file of that name, and the parts of a longer one
        from their end, so that whoever is killed meanwhile leaves none that is not found again.
        """
        number = last
        while os.path.lexists(part_name(self.path, number + 1)):
            number += 1
        later = [part_name(self.path, each) for each in range(number, last, -1)]
        return [part_name(self.path, 1), self.path, *later]

    def _shorten(self) -> None:
        """Cut off what was written and forgotten."""
        last = (self.place - 1) // self.part_size if self.part_size else 0
        for number, descriptor in reversed(list(enumerate(self._files))):
            if number > last:
                os.close(self._files.pop())
                os.unlink(self._passing(number))
            elif number == last:
                os.ftruncate(descriptor, self.place - number * (self.part_size or 0))

    def _create(self, number: int) -> int:
        name, flags = self._passing(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        if self._closed:
            raise CubeError(f"nobody waits for `{self.path}` any more")
        with suppress(FileNotFoundError):
            os.unlink(name)  # of somebody who was killed, in a folder that cannot be listed
        return os.open(name, flags, 0o666)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CubeError(f"`{self.path}` cannot be written: {reason}") from error

    def _passing(self, number: int) -> str:
        return _passing_name(self.path, number)


def _passing_name(path: str, number: int) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{number + 1:03}.part")


def _remove_passing(path: str) -> None:
    """Remove what was not kept. Some of it may be missing: whoever removed or renamed it was killed."""
    folder, name = os.path.split(path)
    passing = re.compile(rf"\.{re.escape(name)}\.\d{{3,}}\.part")
    try:
        there = os.listdir(folder or ".")
    except OSError:  # a folder that is not there yet, or that may be written and not looked through
        there = []
    for each in filter(passing.fullmatch, there):
        os.unlink(os.path.join(folder, each))
