"""Images that are made on this host, and how a cluster gets them: through a registry, by their digest."""

from mlcube.invocation import Invocation
from mlcube.plan import Command, Step, Unless, command

__all__ = ["PLACEHOLDER", "built_here", "push", "pushed_name", "without_registry"]

PLACEHOLDER = "cube.invalid/image"
"""Stands in the manifest for an image whose digest is known once it has been pushed."""

_PUSHED = """\
have=$(docker image inspect --format '{{.Id}}' "$1") && [ -n "$have" ] || exit 1
docker image inspect --format '{{.Id}} {{range .RepoDigests}}{{.}} {{end}}' "$2" |
  grep -F "$have " | grep -qF " ${2%:*}@"
"""
"""IMAGE NAME: whether what this host has of that image was pushed under that name."""


def built_here(invocation: Invocation) -> bool:
    """Whether the image is made of what lies here."""
    return bool(invocation.python or (invocation.recipe and invocation.strategy != "pull"))


def pushed_name(invocation: Invocation, registry: str) -> str:
    """Its name in the registry of the platform.

    The name of another registry is left out; a tag there must be.
    """
    image = (invocation.image or "").partition("@")[0]
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        image = rest
    tagged = ":" in image.rpartition("/")[2]
    return f"{registry.rstrip('/')}/{image}" + ("" if tagged else ":latest")


def push(invocation: Invocation, registry: str, *, anew: bool) -> tuple[Step, ...]:
    """The steps that push it, unless that was done."""
    image, name = invocation.image or "", pushed_name(invocation, registry)
    hint = f"log in: `docker login {registry.partition('/')[0]}`; or see what `docker push {name}` says"
    steps = (
        command("docker", "tag", image, name),
        Command(argv=("docker", "push", name), quiet=True, hint=hint),
    )
    if anew:
        return steps
    probe = command("sh", "-c", _PUSHED, "sh", image, name)
    return (Unless(probe=probe, steps=steps, title=f"pushing the image to `{name}`"),)


def without_registry(invocation: Invocation) -> tuple[str, str] | None:
    """Why it cannot run on a cluster that has no registry of the user's."""
    if not built_here(invocation) or (invocation.recipe and invocation.strategy == "auto" and not invocation.python):
        return None  # one that has a recipe may have been pushed by its author
    return (
        f"the image of `{invocation.cube}` is made here, and the cluster cannot reach it",
        "name a registry where you may push: `registry: registry.example.org/me` of the platform",
    )
