"""A bundle as a cube that runs: its files in the store, its image, SIF file or wheels where a platform finds them."""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from mlcube import directories
from mlcube.artifact import CubeConfig
from mlcube.bundling import artifacts, images
from mlcube.bundling.layout import Entry, brief
from mlcube.bundling.reading import Bundle, cube_entry
from mlcube.bundling.signatures import admitted
from mlcube.errors import Damaged, MissingInput, Untrusted
from mlcube.settings import Settings
from mlcube.store import Kept, Store
from mlcube.store.beside import PREFIX, note_use
from mlcube.store.kept import read_manifest

__all__ = ["VERSIONS", "Opened", "Provided", "opened", "provide", "runners_of"]

VERSIONS = "io.mlcube.bundle.python"
"""The annotation of wheels: for which Pythons they are, as `3.11 3.12`."""
_VERSION = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){1,2}")


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The cube of a bundle."""

    path: str
    """The bundle."""
    name: str
    digest: str
    """The cube's manifest."""
    kept: Kept
    config: CubeConfig
    admission: Any = None
    """The `Admission` of this machine's policy; None: there is no policy."""


class Provided(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a platform run the cube with what the bundle holds."""

    platform: str | None = None
    """Which of them the bundle is for, where the user named none."""
    overrides: tuple[str, ...] = ()
    """`KEY=VALUE` of the cube's file."""
    environment: dict[str, str] = {}
    """Variables for what installs packages."""
    wheels: bool = False
    """Whether the packages of a `python:` cube come from the bundle, and from nowhere else."""
    image: str | None = None
    """The image of a `python:` cube, by the name under which it was loaded."""
    digest: str = ""
    """By which the files that the bundle gave are listed and pinned."""


def opened(
    path: str,
    *,
    mend: bool = False,
    report: Callable[[str], None] = lambda _message: None,
    check: Callable[[], None] = lambda: None,
) -> Opened:
    """The cube of a bundle, in the store of this machine: verified on the way there, and on use.

    `mend` brings a kept cube anew that was damaged. Raises Untrusted, before anything is unpacked, when the policy of
    this machine forbids it.
    """
    store = Store(check=check)
    with Bundle(path, whole=True) as bundle:
        entry = cube_entry(bundle)
        admission = admitted(bundle, entry)
        store.need(entry.digest)
        try:
            there = store.cube(entry.digest)
        except Damaged as error:
            if not mend:
                raise
            report(f"{error.args[0]}; it is brought anew")
            kept = _kept(store, bundle, entry, check, anew=True)
        else:
            kept = there or _kept(store, bundle, entry, check)
        if kept.config is None:
            raise Damaged(f"`{bundle.path}` holds a cube without a configuration")
        return Opened(
            path=bundle.path, name=entry.name, digest=entry.digest, kept=kept, config=kept.config, admission=admission
        )


def _kept(store: Store, bundle: Bundle, entry: Entry, check: Callable[[], None], *, anew: bool = False) -> Kept:
    """The cube, out of the bundle; blobs that lie in an earlier one may be in the store already.

    `anew`: what the store has of it may be damaged.
    """
    there = bundle.has(entry.digest) or not store.has(entry.digest)
    manifest = bundle.manifest(entry.digest) if there else read_manifest(store.read(entry.digest), entry.digest)
    digests = tuple(each.digest for each in (manifest.config, *manifest.layers))
    with store.using((entry.digest, *digests)):
        for digest in (entry.digest, *digests):
            if anew and bundle.has(digest):
                store.forget(digest)
            if not store.has(digest):
                bundle.extract(digest, store.made(digest), check)
                store.seal(digest)
        return store.unpack(entry.digest, f"bundle {entry.name}")


def provide(
    path: str,
    platform: str | None,
    settings: Settings,
    config: CubeConfig,
    *,
    rehearsal: bool = False,
    report: Callable[[str], None] = lambda _message: None,
    check: Callable[[], None] = lambda: None,
) -> Provided:
    """Make what the bundle holds available to a platform, or to the first that is here and that it is for.

    What it gives is not pruned until this process ends. In a `rehearsal` nothing is loaded or written.
    """
    with Bundle(path, whole=True) as bundle:
        admission = admitted(bundle, cube_entry(bundle))
        signed = admission is not None and admission.signed and not admission.whole
        chosen = runners_of(platform or settings.default_platform, settings)
        own = None
        if not chosen:
            own = _own_choice(bundle, config)
            chosen = (own,) if own else ()
        digest = PREFIX + bundle.digest.removeprefix("sha256:")
        if not rehearsal:
            Store(check=check).need(digest)
        providing = _Providing(bundle, config, signed, rehearsal, report, check)
        provided = providing.to(chosen)
        return msgspec.structs.replace(provided, platform=own, digest=digest)


def runners_of(platform: str | None, settings: Settings) -> tuple[str, ...]:
    """The runner of a platform, and those that it wraps."""
    found: list[str] = []
    while platform and platform not in found:
        written = settings.platforms.get(platform) or {"runner": platform}
        found.append(str(written["runner"]))
        inner = written.get("inner")
        platform = str(inner) if inner else None
    return tuple(found)


def _own_choice(bundle: Bundle, config: CubeConfig) -> str | None:
    """The first platform that is here and for which the bundle has something."""
    from mlcube.host import executable

    if bundle.entries(artifacts.WHEELS):
        return "local"
    if bundle.entries(images.IMAGE) and (config.image or config.python):
        for engine in ("docker", "podman"):
            if executable(engine):
                return engine
    if bundle.entries(artifacts.SIF) and (executable("apptainer") or executable("singularity")):
        return "singularity"
    return None


class _Providing:
    def __init__(
        self, bundle: Bundle, config: CubeConfig, signed: bool, rehearsal: bool, report: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:  # fmt: skip
        self.bundle, self.config = bundle, config
        self.signed = signed
        """Whether the policy asks for a signature: then nothing runs that the signature does not cover."""
        self.rehearsal, self.report, self.check = rehearsal, report, check
        self.folder = os.path.join(directories.cache(), "bundles", bundle.digest.removeprefix("sha256:"))

    def to(self, runners: Sequence[str]) -> Provided:
        """For these runners."""
        if "local" in runners:
            return self._wheels()
        sif = self.bundle.entries(artifacts.SIF)
        if "singularity" in runners and sif and not (self.signed and self.bundle.entries(images.IMAGE)):
            return self._sif(sif[0])
        engine = next((each for each in ("podman", "docker") if each in runners), None)
        if engine is None and {"singularity", "sandbox", "kubernetes"} & set(runners):
            engine = self._engine_here()  # from which they take images
        if engine is not None and (found := self._image()):
            return self._load(found, engine)
        return Provided()

    def _wheels(self) -> Provided:
        found = self.bundle.entries(artifacts.WHEELS)
        if not found:
            return Provided()
        if self.bundle.manifest(found[0].digest).layers:
            self._covered(found[0], "wheels")
        versions = tuple(found[0].annotations.get(VERSIONS, "").split())
        self._check_versions(versions)
        folder = os.path.join(self.folder, "wheels")
        if not self.rehearsal:
            self._extract(found[0], folder)
        address = "file://" + quote(folder)
        environment = {f"{tool}_{name}": value for tool in ("PIP", "UV") for name, value in (
            ("NO_INDEX", "1"), ("FIND_LINKS", address),
        )}  # fmt: skip
        overrides = (f"python.version={_range(versions)}",) if versions else ()
        return Provided(overrides=overrides, environment=environment, wheels=True)

    def _check_versions(self, versions: Sequence[str]) -> None:
        for version in versions:
            if not _VERSION.fullmatch(version):
                message = f"`{self.bundle.path}` is damaged: it holds wheels for `{brief(version)}`, which is no Python"
                raise Damaged(message)

    def _sif(self, entry: Entry) -> Provided:
        self._covered(entry, "SIF file")
        folder = os.path.join(self.folder, "sif")
        path = os.path.join(folder, "image.sif")
        if not self.rehearsal:
            paths = self._extract(entry, folder)
            path = paths[0] if paths else path
        # It is run as it is: neither an image by name, nor a recipe stands behind it.
        bare = ("docker=null", "singularity.build_file=null", "singularity.image_dir=null")
        return Provided(overrides=(*bare, f"singularity.image={path}"))

    def _extract(self, entry: Entry, folder: str) -> list[str]:
        note_use(self.folder, os.path.basename(self.bundle.path))
        return artifacts.extract(self.bundle, entry, folder, self.check)

    def _image(self) -> Entry | None:
        """The one for machines like this."""
        found = self.bundle.entries(images.IMAGE)
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        fitting = [each for each in found if each.platform is None or each.platform.architecture == machine]
        if found and not fitting:
            there = ", ".join(sorted({each.platform.architecture for each in found if each.platform}))
            raise MissingInput(f"the image in `{self.bundle.path}` is for {there}, and this machine is {machine}")
        return fitting[0] if fitting else None

    def _covered(self, entry: Entry, what: str) -> None:
        """A signature is one of the cube, and covers besides only the image that the cube names by digest."""
        if not self.signed:
            return
        pinned = self.config.image.pinned if self.config.image else None
        if pinned is None or pinned.rpartition("@")[2] != entry.digest:
            raise Untrusted(
                f"the policy asks for a signature, and the cube's does not cover the {what} in `{self.bundle.path}`",
                hint="the image of a published cube is covered, by its digest; or write a rule for this bundle",
            )

    def _load(self, entry: Entry, engine: str) -> Provided:
        self._covered(entry, "image")
        if self.config.python is not None:  # found by the name that follows from its content
            if entry.name != self._own_name():  # any other could be that of somebody else's image
                self.report(f"the image `{entry.name}` in the bundle is left out: it is not that of its cube")
                return Provided()
            if not self.rehearsal:
                images.load(self.bundle, entry, engine, entry.name, self.check)
            return Provided(image=entry.name)
        identity = self.bundle.manifest(entry.digest).config.digest
        if not self.rehearsal:
            if images.find(identity, (engine,)) is None:
                self.report(f"loading the image `{entry.name}` into {engine}")
            identity = images.load(self.bundle, entry, engine, check=self.check)
        return Provided(overrides=(f"docker.image={identity}", "docker.build_strategy=pull"))

    def _own_name(self) -> str | None:
        """What the image of a `python:` cube is called where it is looked for."""
        from mlcube.binding import generated_image
        from mlcube.reading import read_cube
        from mlcube.workspace import source_digest

        kept = Store(check=self.check).cube(cube_entry(self.bundle).digest)
        if kept is None:
            return None
        cube, _ = read_cube(os.path.join(kept.root, self.config.file), trust=True)
        if cube.python is None:
            return None
        code = source_digest(cube.python.source, cube.python.excluded)
        return generated_image(cube.name, cube.python, code)

    def _engine_here(self) -> str | None:
        from mlcube.host import executable

        return next((each for each in ("docker", "podman") if executable(each)), None)


def _range(versions: Sequence[str]) -> str:
    """What admits the Pythons that there are wheels for: the one that runs, if it is among them."""
    from mlcube.bundling.wheels import this_version

    if this_version() in versions:
        return f"=={this_version()}.*"
    minors = sorted(int(version.split(".")[1]) for version in versions)
    return f">=3.{minors[0]},<3.{minors[-1] + 1}"
