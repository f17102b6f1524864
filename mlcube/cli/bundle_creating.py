"""What `cube bundle create` does: everything that a bundle holds is gathered, then written at once."""

import os
import tempfile
from collections.abc import Iterator

import msgspec

from mlcube import directories
from mlcube.bundling import artifacts, tool, wheels
from mlcube.bundling import images as engine_images
from mlcube.bundling.creating import Artifact, Files, Gathered, check_place, create_bundle
from mlcube.bundling.images import EngineImage
from mlcube.bundling.opening import VERSIONS
from mlcube.bundling.parts import first_part
from mlcube.bundling.sif import convert
from mlcube.cli import console
from mlcube.cli.bundle_output import left, note_signature
from mlcube.cli.bundle_sources import Source, source_of
from mlcube.cli.configure import without_task
from mlcube.cli.interruption import is_told
from mlcube.errors import MissingInput, UsageError, did_you_mean
from mlcube.settings import read_settings
from mlcube.signals import catching

__all__ = ["Wanted", "create"]

_WITHOUT_IMAGE = ("local",)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    reference: str
    output: str
    platforms: tuple[str, ...] = ()
    sif: bool = False
    with_data: bool = False
    python_versions: tuple[str, ...] = ()
    tool: bool = True
    part_size: int | None = None
    since: str | None = None
    trust: bool = False


def create(wanted: Wanted, as_json: bool) -> int:
    """Gather and write."""
    _known(wanted.platforms)
    wheels.check_asked(wanted.python_versions)
    check_place(wanted.output, wanted.since)
    kept = "what was fetched and built for it is kept, for the next time"
    with is_told(lambda: left(wanted.output, first_part(wanted.output)), kept):
        written = _written(wanted)
    note_signature(written[0])
    if as_json:
        from mlcube.bundling.contents import listed

        console.document({"files": written, "bundle": listed(written[0])})
    else:
        console.result("\n".join(written))
    return 0


def _written(wanted: Wanted) -> tuple[str, ...]:
    source = source_of(wanted.reference, with_data=wanted.with_data, trust=wanted.trust)
    scratch = os.path.join(directories.cache(), "scratch")
    os.makedirs(scratch, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=scratch) as folder:
        gathered = _Gathering(wanted, source, folder).everything()
        console.note(f"writing {wanted.output}")
        with catching() as signals:
            return create_bundle(
                wanted.output, gathered, since=wanted.since, part_size=wanted.part_size, check=signals.check
            )


class _Gathering:
    def __init__(self, wanted: Wanted, source: Source, folder: str) -> None:
        self.wanted, self.source, self.folder = wanted, source, folder
        self.platforms = wanted.platforms or self._all_platforms()

    def everything(self) -> Gathered:
        """In the order of the bundle."""
        self._check_python()
        versions = self._versions()  # what cannot be had is told before anything is fetched
        images = tuple(self._images())
        files = tuple(self._files(images, versions))
        install = None
        if self.wanted.tool:
            from importlib.resources import files as resources

            install = resources("mlcube").joinpath("templates/bundle/install.py").read_bytes()
        return Gathered(
            cube=self.source.artifact, referrers=self.source.referrers, images=images, files=files, install=install
        )

    def _all_platforms(self) -> tuple[str, ...]:
        """Those for which a bundle can have something."""
        cube = self.source.cube
        return tuple(
            name for name, has in (("docker", cube.image is not None), ("local", cube.python is not None)) if has
        )

    def _check_python(self) -> None:
        """Raises Untrusted before anything is fetched that a signature does not cover, where one is asked for."""
        source = self.source
        if source.admission is not None and source.cube.python is not None:
            from mlcube.trust.covering import check_python

            image = without_task(source.cube).image if self._with_image() else None
            check_python(source.admission, source.cube.python, image)

    def _with_image(self) -> list[str]:
        """The platforms that run in an image."""
        return [name for name in self.platforms if _runner(name) not in _WITHOUT_IMAGE]

    def _images(self) -> Iterator[EngineImage | Artifact]:
        """The image, if a platform runs in one. With `--sif` it is not carried twice for Apptainer."""
        names = self._with_image()
        if self.wanted.sif:
            names = [name for name in names if _runner(name) != "singularity"]
        if not names:
            return
        yield self._image(names[0])

    def _image(self, platform: str) -> EngineImage | Artifact:
        cube = self.source.cube
        reference = without_task(cube).image
        if reference is None:
            raise UsageError(f"`{cube.name}` has no image for platform `{platform}`", hint="--platform local")
        if self.source.pinned is not None:
            # The published one, by its digest, whatever an engine here calls by that name.
            from mlcube.bundling.published import image
            from mlcube.store import Store

            console.note(f"fetching the image `{self.source.pinned}`")
            return image(self.source.pinned, reference, Store())
        found = engine_images.find(reference)
        if found is None:
            from mlcube.cli.configure import make_available

            make_available(cube, platform if _runner(platform) in ("docker", "podman") else None)
            found = engine_images.find(reference)
        if found is None:
            hint = "`cube configure --platform docker` makes it available"
            raise MissingInput(f"neither Docker nor Podman has the image `{reference}`", hint=hint)
        if self.source.stated is not None:  # another machine, which may have no policy, knows the cube as it stands
            return msgspec.structs.replace(found, reference=without_task(self.source.stated).image or reference)
        return found

    def _versions(self) -> tuple[str, ...]:
        """For which Pythons wheels are collected."""
        cube = self.source.cube
        if cube.python is None:
            return ()
        if self.wanted.sif:
            hint = "leave `--sif` out, and use `--platform local` at the other site"
            raise UsageError("a `python:` cube has no image of its own that could be a SIF file", hint=hint)
        if not any(_runner(name) in _WITHOUT_IMAGE for name in self.platforms):
            return ()
        return wheels.admitted(cube.python.version, self.wanted.python_versions)

    def _files(self, images: tuple[EngineImage | Artifact, ...], versions: tuple[str, ...]) -> Iterator[Files]:
        cube = self.source.cube
        if self.wanted.sif:
            yield self._sif(images)
        if cube.python is not None and versions:
            console.note(f"collecting the requirements for Python {', '.join(versions)}")
            paths = wheels.collect(cube.python.requirements, self._new("wheels"), versions)
            yield Files(
                role=artifacts.WHEELS, name="wheels", paths=tuple(paths), annotations={VERSIONS: " ".join(versions)}
            )
        if self.wanted.tool:
            also = (("pip",) if versions else ()) + (("cryptography",) if self.source.referrers else ())
            paths = tool.collect(self._new("tool"), versions=versions or self.wanted.python_versions, also=also)
            yield Files(role=artifacts.TOOL, name="tool", paths=tuple(paths))

    def _sif(self, images: tuple[EngineImage | Artifact, ...]) -> Files:
        cube = self.source.cube
        own = str(cube.singularity.get("image") or "")
        place = os.path.join(cube.root, str(cube.singularity.get("image_dir") or ""), own)
        if own.endswith(".sif") and os.path.isfile(place):
            return Files(role=artifacts.SIF, name="image.sif", paths=(place,))
        reference = without_task(cube).image
        if reference is None:
            raise UsageError(f"`{cube.name}` has no image that could become a SIF file", hint="leave `--sif` out")
        held = next((each for each in images if isinstance(each, EngineImage)), None) or engine_images.find(reference)
        console.note(f"converting `{reference}` into a SIF file")
        path = convert(self.source.pinned or reference, held, self._new("sif"))
        return Files(role=artifacts.SIF, name="image.sif", paths=(path,))

    def _new(self, name: str) -> str:
        path = os.path.join(self.folder, name)
        os.mkdir(path)
        return path


def _known(names: tuple[str, ...]) -> None:
    """Raise UsageError for a platform that is neither in the settings nor a runner's name."""
    from mlcube.runner import installed

    known = tuple(dict.fromkeys((*read_settings().platforms, *installed())))
    for name in names:
        if name not in known:
            hint = f"{did_you_mean(name, known) or 'list them'} (`cube platforms`)"
            raise UsageError(f"no platform is named `{name}`", hint=hint)


def _runner(platform: str) -> str:
    """The runner that starts the task: the innermost."""
    from mlcube.bundling.opening import runners_of

    return runners_of(platform, read_settings())[-1]
