"""Which of its sources the image of a task is taken from."""

import os.path
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mlcube.cube import SOURCE, PythonEnvironment, Recipe
from mlcube.errors import Refused
from mlcube.invocation import Invocation, Mount
from mlcube.plan import Command, Fail, Step, Unless, WriteFile, command
from mlcube_runners import _singularity_steps as steps
from mlcube_runners._mounts import mount_argument
from mlcube_runners._python_image import base_image
from mlcube_runners._singularity_cache import ENVIRONMENT, Cache, Image
from mlcube_runners._singularity_definition import look_at

__all__ = ["find_base", "find_image", "source_mount"]

_ADDRESSES = ("docker://", "oras://", "library://", "shub://", "http://", "https://", "docker-daemon:", "oci:")
_ARCHIVES = ("docker-archive:", "oci-archive:")
_ARCHIVE_FILES = (".tar", ".tar.gz", ".tgz")
_SIF_FILES = (".sif", ".simg", ".img", ".sqsh")


def find_image(invocation: Invocation, cache: Cache) -> Image:
    """The image of a task, from the first of its sources.

    Raises Refused when the cube names none.
    """
    return _Finding(invocation, cache).image()


def find_base(invocation: Invocation, cache: Cache) -> Image:
    """The same without what a `python:` cube puts into the base image, or beside it."""
    python = invocation.python
    return _Finding(invocation, cache).named(base_image(python)) if python else find_image(invocation, cache)


def source_mount(python: PythonEnvironment | None, source_digest: str | None, directory: str) -> Mount | None:
    """The code of a `python:` cube: beside the image, so that a change of the code converts nothing again."""
    return Mount(f"{directory}/source-{source_digest}", SOURCE) if python else None


class _Finding:
    """The search for one image."""

    def __init__(self, invocation: Invocation, cache: Cache) -> None:
        self.invocation, self.cache = invocation, cache
        self.section: Mapping[str, Any] = invocation.singularity

    def image(self) -> Image:
        invocation = self.invocation
        if invocation.python is not None:
            return self.python(invocation.python)
        written, build_file = (str(self.section.get(key) or "") for key in ("image", "build_file"))
        if written:
            in_directory = self.section.get("image_dir") or build_file
            if written.endswith(_SIF_FILES) or (in_directory and not _is_address(written)):
                return self.file(written, build_file)
            return self.named(written)
        if build_file:
            return self.definition(build_file)
        if invocation.image:
            return self.named(invocation.image)
        hint = "add `docker: {image: NAME}` or `singularity: {image: FILE.sif}` to its mlcube.yaml"
        raise Refused("the cube names no image", hint=hint)

    def file(self, written: str, build_file: str) -> Image:
        """A SIF file, or when it is not there what it is made of."""
        directory = os.path.expanduser(str(self.section.get("image_dir") or ""))
        path = self.path(os.path.join(directory, os.path.expanduser(written)))
        if not build_file and not self.invocation.image:
            hint = "put it there, or say what it is made of: `singularity: {build_file: docker://NAME}`"
            return self.own(path, hint)
        # The file may come and go between one run and the next, so the place in the cache says which image it is.
        made = self.definition(build_file) if build_file else self.named(str(self.invocation.image))
        carried = self.carried(path)
        place = self.cache.place(written, f"{carried or path}\0{made.sif}")
        # What lies with the cube on the host from which it was carried is sent before this.
        there = command("false") if carried else steps.shell(steps.LINK_FILE, path, place, self.cache.new)
        other = steps.shell(steps.LINK_PLACE, made.place or "", place, self.cache.new)
        image = self.cache.image(written, place, (Unless(probe=there, steps=(*made.steps, other)),))
        return msgspec.structs.replace(image, path=path, reference=made.reference)

    def own(self, path: str, hint: str) -> Image:
        """A SIF file of the user's own: run as it is, or from the cache where it must be unpacked or was sent to."""
        if carried := self.carried(path):
            place = self.cache.place(os.path.basename(path), carried)
            sent = Unless(
                probe=command("test", "-s", f"{place}/image.sif"),
                steps=(Fail(message=f"the SIF file `{carried}` was not sent", hint=hint, status=74),),
            )
            return msgspec.structs.replace(self.cache.image(path, place, (sent,)), path=carried)
        missing = Fail(message=f"there is no SIF file `{path}`", hint=hint, status=74)
        # A directory would be an image too: anything of the host, wherever the cube says.
        there = Unless(probe=command("test", "-f", path), steps=(missing,))
        place = self.cache.place(os.path.basename(path), path)
        if not self.cache.unpack:
            kept = self.cache.identity(path)
            known = steps.shell(steps.IS_KNOWN, path, kept)
            read = Unless(probe=known, steps=(steps.shell(steps.KNOW, path, kept, self.cache.new),))
            every = (there, read)
            return Image(name=path, file=path, path=path, identity=known, steps=every, always=self.cache.always)
        return self.cache.image(path, place, (there, steps.shell(steps.LINK_FILE, path, place, self.cache.new)))

    def named(self, name: str) -> Image:
        """A reference, an address of the engine's own, an archive, or a SIF file."""
        if name.startswith("docker://"):
            return self.reference(name.removeprefix("docker://"))
        if name.startswith(_ARCHIVES) or name.endswith(_ARCHIVE_FILES):
            transport, _, path = name.partition(":") if name.startswith(_ARCHIVES) else ("docker-archive", "", name)
            return self.archive(self.path(os.path.expanduser(path)), transport)
        if _is_address(name):
            return self.address(name)
        if name.endswith(_SIF_FILES) or name.startswith(("/", "./", "../", "~")):
            return self.own(self.path(os.path.expanduser(name)), "check `image` in the cube's mlcube.yaml")
        return self.reference(name)

    def reference(self, reference: str) -> Image:
        """An OCI image: Docker's or Podman's here, or built by them, or its registry's."""
        if not _is_reference(reference):
            raise Refused(f"`{reference}` is no image reference", hint="write it as `registry.example.org/name:tag`")
        cache, place = self.cache, self.cache.place(reference, reference)
        recipe = self.invocation.recipe if reference == self.invocation.image else None
        strategy = self.invocation.strategy
        recipe = None if strategy == "pull" else recipe
        always = recipe is not None and (cache.anew or strategy == "always")
        get: tuple[Step, ...] = cache.fetch(f"docker://{reference}", place)
        before: tuple[Step, ...] = ()
        current = command("test", "-s", f"{place}/image.sif")
        if cache.builders:
            if recipe is not None:
                get = (steps.build(cache.builders[0], reference, recipe),)
                before = get if always else ()
            get = self.local(reference, place, get)
            if "@sha256:" not in reference:
                current = steps.shell(steps.IS_CURRENT, reference, place, *cache.builders)
        elif recipe is not None:
            get = self.converted(recipe, reference, place, always=always)
            current = command("false") if always else current
        title = f"converting the image `{reference}` into a SIF file"
        image = cache.image(reference, place, (*before, cache.unless(current, get, title, place)))
        told = current if current.argv[0] == "sh" else None
        return msgspec.structs.replace(image, identity=told, reference=reference)

    def local(self, reference: str, place: str, get: tuple[Step, ...]) -> tuple[Step, ...]:
        """What Docker or Podman hold is taken from them, the rest from where `get` finds it."""
        cache = self.cache
        held = steps.shell(steps.IS_LOCAL, reference, *cache.builders)
        kept = steps.shell(steps.IS_KEPT, reference, place, cache.new, *cache.builders)
        save = (
            cache.begin(),
            steps.shell(steps.SAVE, reference, cache.new, *cache.builders),
            cache.build("docker-archive:image.tar", directory=cache.new),
            steps.shell(steps.KEEP_SAVED, cache.executable, place, cache.new),
        )
        return (Unless(probe=held, steps=get), Unless(probe=kept, steps=save))

    def converted(self, recipe: Recipe, reference: str, place: str, *, always: bool) -> tuple[Step, ...]:
        """Nobody here builds a Dockerfile: others may have, and pushed it; else spython makes a definition of it."""
        begin, fetch, keep = self.cache.fetch(f"docker://{reference}", place)
        make = self.dockerfile(recipe)
        return (begin, *(make if always else (Unless(probe=fetch, steps=make),)), keep)

    def dockerfile(self, recipe: Recipe) -> tuple[Step, ...]:
        """A Dockerfile as a definition file, and that as an image."""
        if recipe.arguments:
            message = f"`{recipe.file}` has build arguments, which a definition file cannot have"
            hint = "build it where Docker or Podman is, push it, and name it with `docker: {image: ...}`"
            return (Fail(message=message, hint=hint, status=74),)
        if self.cache.spython is None:
            message = f"there is neither Docker nor Podman to build `{recipe.file}`, nor spython to convert it"
            hint = "`pip install 'mlcube[singularity]'` brings spython; or `-P docker.build_strategy=pull`"
            return (Fail(message=message, hint=hint, status=74),)
        plain, definition = f"{self.cache.new}/Dockerfile", f"{self.cache.new}/definition"
        convert = (self.cache.spython, "-c", steps.SPYTHON, "recipe", plain, definition)
        return (
            steps.shell(steps.PLAIN_DOCKERFILE, recipe.file, plain),
            Command(argv=convert, directory=recipe.context),
            *self.looked_at(definition, f"what spython makes of `{recipe.file}`", recipe.context),
            self.cache.build(definition, directory=recipe.context, hint=_POST),
        )

    def archive(self, path: str, transport: str) -> Image:
        """What `docker save` or `podman save` has written."""
        # The transport would take a colon in the path for its own, so the archive gets a name of ours.
        link = command("ln", "-s", path, f"{self.cache.new}/archive")
        return self.made_of(path, link, self.cache.build(f"{transport}:archive", directory=self.cache.new))

    def definition(self, build_file: str) -> Image:
        """What a definition file says, or an address that stands in its place."""
        if _is_address(build_file) or build_file.startswith(_ARCHIVES):
            return self.named(build_file)
        path = self.path(os.path.expanduser(build_file))
        directory, name = os.path.split(path)
        look = self.looked_at(f"./{name}", f"`{path}`", directory)
        return self.made_of(path, *look, self.cache.build(f"./{name}", directory=directory, hint=_POST))

    def looked_at(self, definition: str, name: str, directory: str) -> tuple[Step, ...]:
        """A cube is data: its definition neither runs anything on the host nor copies what is not the cube's."""
        return look_at(definition, name, directory=directory, script=f"{self.cache.new}/look")

    def address(self, address: str) -> Image:
        """Anything else that the engine can fetch itself."""
        place = self.cache.place(address, address)
        current = command("test", "-s", f"{place}/image.sif")
        fetch = self.cache.fetch(address, place)
        return self.cache.image(
            address, place, (self.cache.unless(current, fetch, f"fetching the image `{address}`", place),)
        )

    def made_of(self, path: str, *make: Step) -> Image:
        """An image made of one file, made again when the file has changed."""
        place = self.cache.place(os.path.basename(path), path)
        current = steps.shell(steps.IS_MADE_OF, path, place)
        keep = steps.shell(steps.KEEP_MADE_OF, self.cache.executable, place, self.cache.new, path)
        every = (self.cache.begin(), *make, keep)
        title = f"converting `{path}` into a SIF file"
        return self.cache.image(path, place, (self.cache.unless(current, every, title, place),))

    def python(self, python: PythonEnvironment) -> Image:
        """The base image, with the requirements; the code is mounted."""
        cache, name = self.cache, str(self.invocation.image)
        base = self.named(base_image(python))
        code = source_mount(python, self.invocation.source_digest, cache.directory)
        assert code is not None  # noqa: S101 - there is a `python:` section
        copy = Unless(
            probe=command("test", "-d", code.source),
            steps=steps.copy_source(python.source, code.source, cache.new),
            lock=cache.lock(code.source),
        )
        if not python.requirements.strip():
            every = (*base.steps, copy)
            return Image(name=name, file=base.file, place=base.place, steps=every, always=cache.always)
        place = cache.place(f"{self.invocation.cube}-environment", f"{base.sif}\0{python.requirements}")
        make = (
            command("mkdir", "-p", "--", f"{cache.new}/environment", f"{cache.new}/scratch/home"),
            WriteFile(path=f"{cache.new}/requirements.txt", text=python.requirements),
            steps.shell(steps.INSTALL, cache.executable, "--silent", "exec", *self.install_arguments(base)),
            steps.shell(steps.KEEP_ENVIRONMENT, base.sif, place, cache.new),
        )
        title = f"installing the requirements of `{self.invocation.cube}`"
        install = cache.unless(steps.shell(steps.HAS_BASE, base.sif, place), make, title, place)
        every = (*base.steps, install, copy)
        return Image(name=name, file=base.file, place=base.place, environment=place, steps=every, always=cache.always)

    def install_arguments(self, base: Image) -> Iterator[str]:
        """Into a directory that tasks then see at the same place: that needs no root, no fakeroot, no conversion."""
        new = self.cache.new
        yield from ("--containall", "--cleanenv", "--no-eval", "--home=/tmp/home", "--pwd=/")
        yield mount_argument(Mount(f"{new}/scratch", "/tmp", "rw"))  # noqa: S108 - a place in the container
        yield mount_argument(Mount(f"{new}/environment", ENVIRONMENT, "rw"))
        yield mount_argument(Mount(f"{new}/requirements.txt", "/mlcube/requirements.txt"))
        yield from (base.file, "sh", "-ec", steps.IN_BASE)

    def carried(self, path: str) -> str | None:
        """Where a file lies on the host from which the invocation was carried, if that is with the cube."""
        for before, now in zip(
            self.cache.origin or (), (self.invocation.root, self.invocation.workspace), strict=False
        ):
            for place in (now, before):
                if place and path.startswith(f"{place}/"):
                    return before + path[len(place) :]
        return None

    def path(self, written: str) -> str:
        """A path of the cube file, absolute."""
        return os.path.normpath(os.path.join(self.invocation.root or self.invocation.workspace, written))


_POST = "`%post` of a definition needs user namespaces or fakeroot; an image of a registry needs neither"


def _is_address(text: str) -> bool:
    return text.startswith((*_ADDRESSES, *_ARCHIVES))


def _is_reference(text: str) -> bool:
    """Whether it may stand in an argument vector: it is no option, and one word."""
    return text[0:1].isalnum() and all(character.isalnum() or character in "._-/:@" for character in text)
