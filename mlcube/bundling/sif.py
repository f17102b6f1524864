"""A container image as a SIF file, made where the bundle is, so that the other site converts nothing."""

import os

from mlcube import files
from mlcube.asking import ask
from mlcube.bundling.images import EngineImage
from mlcube.errors import PreparationFailed, Refused
from mlcube.plan import Command
from mlcube.starting import start
from mlcube.stream import Log

__all__ = ["convert"]

_ENGINES = ("apptainer", "singularity")
_PATIENCE_SECONDS = 3600.0


def convert(reference: str, held: EngineImage | None, folder: str) -> str:
    """The path of a new SIF file in `folder`: of the image that an engine holds, else of its registry's.

    Raises Refused when there is no Apptainer, PreparationFailed when it fails.
    """
    executable = next((each for each in _ENGINES if ask((each, "--version")).status == 0), None)
    if executable is None:
        hint = "leave `--sif` out: the image is carried as it is"
        raise Refused("`--sif` needs Apptainer, and it is not here", hint=hint)
    source = f"docker://{reference}"
    if held is not None:
        _save(held, os.path.join(folder, "image.tar"))
        source = "docker-archive:image.tar"
    target = os.path.join(folder, "image.sif")
    # With a cache of its own the user's stays as it is, and nothing of this one is left.
    own = {f"{prefix}_DISABLE_CACHE": "1" for prefix in ("APPTAINER", "SINGULARITY")}
    argv = ("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", folder, executable, "--silent", "build", target, source)
    answer = ask(argv, environment=own, timeout_seconds=_PATIENCE_SECONDS)
    if answer.status:
        said = answer.error.strip().splitlines()
        raise PreparationFailed(f"`{executable} build` of `{reference}` failed", hint=said[-1] if said else None)
    if held is not None:
        os.unlink(os.path.join(folder, "image.tar"))
    return target


def _save(image: EngineImage, path: str) -> None:
    format_ = () if image.engine == "docker" else ("--format=docker-archive",)
    complaints = files.unnamed(b"")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        argv = (image.engine, "save", *format_, image.id)
        child = start(Command(argv=argv), Log(None), {}, None, stdout=descriptor, stderr=complaints)
        status = child.reap()
        child.close()
    finally:
        os.close(descriptor)
        said = files.end_of(complaints, 2000).decode(errors="replace").strip()
    if status:
        raise PreparationFailed(f"`{image.engine} save {image.reference}` failed", hint=said or None)
