"""The cache of SIF files: where an image lies in it, and the steps that put it there once for everybody.

A place (`<name>-<key>`) is a link to what it was converted to (`sha256-<digest>`), a directory of

    image.sif   the image
    identity    `sha256:` and the digest of the SIF file
    directory   the working directory that the image's author chose
    source      what it was made of: the id of a local image, the checksum of a definition file, an address
    root/       the image unpacked, where SIF files cannot be mounted

so that everything changes at once when an image becomes newer, and tasks that run keep what they began with.
"""

import os.path

import msgspec

from mlcube.plan import Command, Step, Unless, WriteFile, command
from mlcube_runners import _singularity_steps as steps

__all__ = ["ENVIRONMENT", "Cache", "Image"]

ENVIRONMENT = "/mlcube/environment"
"""Where the requirements of a `python:` cube lie in its container."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image, and how it comes to be there."""

    name: str
    """As the user knows it."""
    file: str
    """What the engine is given."""
    place: str | None = None
    """In the cache; None: a SIF file of the user's own."""
    identity: Command | None = None
    """Tells the digest, where preparing asks for it anyway."""
    reference: str | None = None
    """What an engine knows it by that may hold it."""
    path: str | None = None
    """A file of the user's that it is, if that is there."""
    environment: str | None = None
    """A place in the cache with a virtual environment made for this image."""
    steps: tuple[Step, ...] = ()
    always: tuple[Step, ...] = ()

    @property
    def sif(self) -> str:
        """The SIF file, even where it is not what runs."""
        return f"{self.place}/image.sif" if self.place else self.file


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """Where images lie on a host, and what is there to make them with."""

    directory: str
    executable: str
    builders: tuple[str, ...]
    """Engines that hold or build images."""
    spython: str | None
    """A Python that has it."""
    unpack: bool
    """SIF files cannot be mounted."""
    run_id: str
    anew: bool
    """What could be newer is converted again."""
    origin: tuple[str, str] | None = None
    """Where the cube's directory and the workspace lie on the host from which the invocation was carried to this."""

    @property
    def new(self) -> str:
        """Where this run, and no other, puts together what is then renamed."""
        return f"{self.directory}/{self.run_id}.new"

    @property
    def always(self) -> tuple[Step, ...]:
        """What is removed however preparing ends."""
        return (command("rm", "-rf", "--", self.new, f"{self.new}.link", f"{self.new}.identity"),)

    def place(self, name: str, key: str) -> str:
        """A place, with a name that a person recognises."""
        import hashlib

        digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:16]
        safe = "".join(character if character.isascii() and character.isalnum() else "-" for character in name)
        return f"{self.directory}/{safe[-60:].lstrip('-')}-{digest}"

    def identity(self, path: str) -> str:
        """What the names of files begin with that keep the digest of a SIF file of the user's own."""
        return f"{self.directory}/identities/{os.path.basename(self.place(os.path.basename(path), path))}"

    def begin(self) -> Command:
        """Have an empty directory to put things together in."""
        return command("mkdir", "-p", "--", self.new)

    def build(self, source: str, *, directory: str | None = None, hint: str | None = None) -> Command:
        """Have the engine convert anything that it understands."""
        target = "image.sif" if directory == self.new else f"{self.new}/image.sif"
        return Command(argv=(self.executable, "build", "--force", target, source), directory=directory, hint=hint)

    def keep(self, place: str, source: str) -> Command:
        """Give the new image its place, with what it was made of."""
        return steps.shell(steps.KEEP, self.executable, place, self.new, source)

    def fetch(self, address: str, place: str) -> tuple[Step, Command, Step]:
        """Have the engine fetch and convert an image."""
        login = f"`{self.executable} registry login docker://REGISTRY`"
        hint = f"check the name and the network; if the registry is private, log in: {login}"
        return self.begin(), self.build(address, hint=hint), self.keep(place, address)

    def unless(self, probe: Command, made_by: tuple[Step, ...], title: str, place: str) -> Unless:
        """Done by one process, on any machine that shares the cache, while the others wait."""
        return Unless(probe=command("false") if self.anew else probe, steps=made_by, title=title, lock=self.lock(place))

    def lock(self, place: str) -> str:
        """Held while a place is made."""
        return f"{self.directory}/locks/{os.path.basename(place)}.lock"

    def image(self, name: str, place: str, made_by: tuple[Step, ...]) -> Image:
        """The image that will lie in a place, unpacked where that is needed."""
        always = self.always
        if not self.unpack:
            return Image(name=name, file=f"{place}/image.sif", place=place, steps=made_by, always=always)
        # Named itself, a file that is text and no image would be taken for a definition, which runs on the host.
        definition = WriteFile(path=f"{self.new}/definition", text="Bootstrap: localimage\nFrom: image.sif\n")
        sandbox = (self.executable, "build", "--force", "--sandbox", "root", "definition")
        make = (
            self.begin(),
            command("ln", "-s", f"{place}/image.sif", f"{self.new}/image.sif"),
            definition,
            Command(argv=sandbox, directory=self.new),
            steps.shell(steps.KEEP_UNPACKED, place, self.new),
        )
        unpack = Unless(
            probe=command("test", "-d", f"{place}/root"),
            steps=make,
            title=f"unpacking the image `{name}`: no SIF file can be mounted here, so what runs as you can change it",
            lock=self.lock(place),
        )
        return Image(name=name, file=f"{place}/root", place=place, steps=(*made_by, unpack), always=always)
