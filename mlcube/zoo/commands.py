"""What a page tells its reader to type."""

import shlex
from collections.abc import Sequence

import msgspec

from mlcube.zoo.entries import Entry

__all__ = ["Command", "commands", "quoted"]

_SAYS = {
    "docker": "Docker",
    "podman": "Podman",
    "singularity": "Apptainer, Singularity",
    "sandbox": "Sandbox",
    "local": "Here, without a container",
    "kubernetes": "Kubernetes",
    "slurm": "Slurm",
    "ssh": "Over SSH",
}


class Command(msgspec.Struct, frozen=True):
    """A line to be copied, and for what it is."""

    title: str
    text: str


def commands(entry: Entry, url: str | None = None) -> tuple[tuple[Command, ...], tuple[Command, ...]]:
    """How to run the cube on each platform, and what else can be done with it.

    Nothing with a control character gets into a line: a terminal would take its end for Enter.
    """
    task = next((task.name for task in entry.tasks if task.kind == "infer"), None)
    task = task or (entry.tasks[0].name if entry.tasks else None)
    name = f"{entry.name}:{entry.version}" if entry.version else entry.name
    words = ["cube", "run"]
    if entry.reference:
        words.append(entry.reference)
    else:
        words += ["--mlcube", f"./{entry.name}"]
    if task is not None:
        words += ["--task", task]
    running = [Command("Wherever you are", quoted(words))]
    running += [Command(_SAYS[each], quoted([*words, "--platform", each])) for each in entry.platforms]
    more = []
    if entry.reference:
        if url:
            more += [
                Command("Add this zoo", quoted(["cube", "zoo", "add", "zoo", url])),
                Command("Run it by its name", quoted(["cube", "run", name, *words[3:]])),
            ]
        more += [
            Command("Fetch it for later", quoted(["cube", "pull", entry.reference])),
            Command(
                "To a site without a network",
                quoted(["cube", "bundle", "create", entry.reference, "-o", f"{_file_name(entry.name)}.cube"]),
            ),
        ]
        if entry.signatures:
            more.append(Command("Who signed it?", quoted(["cube", "verify", entry.reference, "--key", "KEY.pub"])))
    return tuple(each for each in running if each.text), tuple(each for each in more if each.text)


def quoted(words: Sequence[str]) -> str:
    """The words as a line for a shell; empty where one holds a control character, which no name has."""
    return shlex.join(words) if all(word.isprintable() for word in words) else ""


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).lstrip(".-") or "model"
