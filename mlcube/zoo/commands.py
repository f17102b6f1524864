"""What a page tells its reader to type."""

import shlex

import msgspec

from mlcube.zoo.entries import Entry

__all__ = ["Command", "commands"]

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
    running = [Command("Wherever you are", _joined(words))]
    running += [Command(_SAYS[each], _joined([*words, "--platform", each])) for each in entry.platforms]
    more = []
    if entry.reference:
        if url:
            more += [
                Command("Add this zoo", _joined(["cube", "zoo", "add", "zoo", url])),
                Command("Run it by its name", _joined(["cube", "run", name, *words[3:]])),
            ]
        more += [
            Command("Fetch it for later", _joined(["cube", "pull", entry.reference])),
            Command(
                "To a site without a network",
                _joined(["cube", "bundle", "create", entry.reference, "-o", f"{_file_name(entry.name)}.cube"]),
            ),
        ]
        if entry.signatures:
            more.append(Command("Who signed it?", _joined(["cube", "verify", entry.reference, "--key", "KEY.pub"])))
    return tuple(each for each in running if each.text), tuple(each for each in more if each.text)


def _joined(words: list[str]) -> str:
    return shlex.join(words) if all(word.isprintable() for word in words) else ""


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).lstrip(".-") or "model"
