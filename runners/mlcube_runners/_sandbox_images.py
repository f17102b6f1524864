"""How an image comes to be an unpacked root file system in the cache."""

import os.path
import sys

from mlcube.errors import Refused
from mlcube.invocation import Invocation
from mlcube.plan import Command, Fail, Plan, Step, Unless, command
from mlcube.runner import Host
from mlcube_runners._container import full_name
from mlcube_runners._image_build import PODMAN_BUILD, build_steps, clean_steps, image_lock, podman_file

__all__ = ["configure", "identity_file", "image_folder", "prepare", "unbuildable"]

_PULL_OR_SKIP = '"$1" pull "$2" || :'
"""What was built here and never pushed cannot be pulled; whether it is here shows when it is saved."""


def image_folder(invocation: Invocation, host: Host, archive: str | None) -> str:
    """Where the unpacked image lies, whatever it is today that its name means."""
    return os.path.join(_store(host), "references", _name(invocation, archive))


def identity_file(invocation: Invocation, host: Host, archive: str | None) -> str:
    """The file that says which image was unpacked."""
    return os.path.join(image_folder(invocation, host, archive), "image.json")


def unbuildable(invocation: Invocation, host: Host, archive: str | None) -> tuple[str, str] | None:
    """Why an image that must be built cannot be."""
    sources = host.get("image_sources")
    if archive or sources is None or any(engine in sources for engine in ("docker", "podman")):
        return None
    if invocation.python:
        return (
            "a cube with a `python:` section needs Docker or Podman to make its image, and neither is usable here",
            "use `--platform local`, which needs no image",
        )
    if invocation.strategy == "always":
        return (
            f"image `{invocation.image}` is to be built, and neither Docker nor Podman is usable here",
            "let it be pulled instead: `-P docker.build_strategy=pull`",
        )
    return None


def prepare(invocation: Invocation, host: Host, archive: str | None) -> Plan:
    """Unpack the image when it is not there."""
    place = _archive_place(invocation, host)
    if archive is None and invocation.python is None and invocation.strategy == "always":
        return Plan(steps=_renewed(invocation, host, place), always=_last(invocation, place))
    fetch = () if archive else (*_new_folder(place), *_found_or_fetched(invocation, host, place))
    missing = Unless(
        probe=command("test", "-e", os.path.join(image_folder(invocation, host, archive), "launch")),
        title=f"unpacking the image `{archive or invocation.image}`",
        lock=image_lock("sandbox", _name(invocation, archive), host),
        steps=(*fetch, _unpack(invocation, host, archive or place, archive)),
    )
    return Plan(steps=(missing,), always=() if archive else _last(invocation, place))


def configure(invocation: Invocation, host: Host, archive: str | None) -> Plan:
    """Build or fetch again what could be newer, and unpack it if it is."""
    place = _archive_place(invocation, host)
    if archive:
        return Plan(steps=(_unpack(invocation, host, archive, archive),))
    return Plan(steps=_renewed(invocation, host, place), always=_last(invocation, place))


def _renewed(invocation: Invocation, host: Host, place: str) -> tuple[Step, ...]:
    engines, image = _engines(host), _image(invocation)
    builds = invocation.python or (invocation.recipe and invocation.strategy != "pull")
    saved = _saved(engines, image, place, (_nowhere(image),))
    if builds:
        fetch: tuple[Step, ...] = _built(invocation, engines, place)
    elif "skopeo" in _sources(host):
        fetch = (Unless(probe=_copy(image, place), steps=saved),)
    elif engines:
        name = full_name(image) if engines[0] == "podman" else image
        fetch = (command("sh", "-c", _PULL_OR_SKIP, "sh", engines[0], name), *saved)
    else:
        fetch = saved
    return (*_new_folder(place), *fetch, _unpack(invocation, host, place, None))


def _found_or_fetched(invocation: Invocation, host: Host, place: str) -> tuple[Step, ...]:
    """The image of a local engine; else built where there is a recipe; else out of its registry."""
    engines, image = _engines(host), _image(invocation)
    if invocation.python or (invocation.recipe and invocation.strategy == "auto" and engines):
        fetch = _built(invocation, engines, place)
    elif "skopeo" in _sources(host):
        fetch = (_copy(image, place),)
    elif engines:
        name = full_name(image) if engines[0] == "podman" else image
        fetch = (
            Command(argv=(engines[0], "pull", name), hint=_check_name(engines[0])),
            _save(engines[0], image, place),
        )
    else:
        fetch = (_nowhere(image),)
    return _saved(engines, image, place, fetch)


def _saved(engines: tuple[str, ...], image: str, place: str, otherwise: tuple[Step, ...]) -> tuple[Step, ...]:
    """The image of the first engine that has it. Saving is itself how one finds out."""
    for engine in reversed(engines):
        otherwise = (Unless(probe=_save(engine, image, place), steps=otherwise),)
    return otherwise


def _built(invocation: Invocation, engines: tuple[str, ...], place: str) -> tuple[Step, ...]:
    if not engines:
        message, hint = unbuildable(invocation, {"image_sources": []}, None) or ("it cannot be built here", "pull it")
        return (Fail(message=message, hint=hint, status=74),)
    if engines[0] == "podman":
        build = build_steps(invocation, PODMAN_BUILD, written=podman_file)
    else:
        build = build_steps(invocation, ("docker", "build"))
    return (*build, _save(engines[0], _image(invocation), place))


def _save(engine: str, image: str, place: str) -> Command:
    return command(engine, "save", "--output", place, image, quiet=True)


def _copy(image: str, place: str) -> Command:
    name = full_name(image)
    return Command(argv=("skopeo", "copy", f"docker://{name}", f"oci-archive:{place}"), hint=_check_name("skopeo"))


def _check_name(tool: str) -> str:
    return f"check the name; if the registry is private, log in: `{tool} login REGISTRY`"


def _nowhere(image: str) -> Fail:
    return Fail(
        message=f"the image `{image}` is in no local engine, and nothing here fetches images",
        hint="install skopeo, or name a file: `-Prunner.archive=FILE`, as `docker save` writes it elsewhere",
        status=74,
    )


def _unpack(invocation: Invocation, host: Host, source: str, archive: str | None) -> Command:
    words = (source, _store(host), _name(invocation, archive), archive or _image(invocation))
    # In the topmost directory, because Python imports from where it stands, and a cube may lie there.
    argv = (sys.executable or "python3", "-m", "mlcube_runners._root_file_system", *words)
    return Command(argv=argv, directory="/", quiet=True)


def _new_folder(place: str) -> tuple[Step, ...]:
    return (command("mkdir", "-p", os.path.dirname(place)),)


def _last(invocation: Invocation, place: str) -> tuple[Step, ...]:
    return (command("rm", "-rf", place), *clean_steps(invocation))


def _archive_place(invocation: Invocation, host: Host) -> str:
    return os.path.join(_store(host), "downloads", f"{invocation.run_id}.tar")


def _store(host: Host) -> str:
    cache = host.get("caller", {}).get("cache")
    if not cache:
        raise Refused("no cache directory was found", hint="set `CUBE_CACHE_DIR` to an absolute path")
    return os.path.join(cache, "sandbox")


def _name(invocation: Invocation, archive: str | None) -> str:
    """The reference as the name of a file: to be recognised, and with a digest that keeps like ones apart."""
    from hashlib import sha256

    text = archive or _image(invocation)
    plain = "".join(character if character.isalnum() and character.isascii() else "-" for character in text)
    return f"{plain[-60:].lstrip('-')}-{sha256(text.encode(errors='surrogateescape')).hexdigest()[:12]}"


def _image(invocation: Invocation) -> str:
    return invocation.image or ""


def _sources(host: Host) -> tuple[str, ...]:
    return tuple(host.get("image_sources") or ())


def _engines(host: Host) -> tuple[str, ...]:
    return tuple(source for source in _sources(host) if source in ("docker", "podman"))
