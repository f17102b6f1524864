"""What older and foreign files mean: MedPerf's container files, layouts of other years."""

from typing import Any

from mlcube.errors import InvalidFile, Problem, did_you_mean
from mlcube.raw_arguments import words
from mlcube.source import Document, Key
from mlcube.validation import named

__all__ = ["RENAMED_TYPES", "MedperfCommand", "as_cube", "foreign", "is_medperf"]

RENAMED_TYPES = {"str": "string", "int": "integer", "bool": "boolean", "folder": "directory", "dir": "directory"}
"""Type names that people write, and the right words."""

MedperfCommand = tuple[list[str], list[str]]
"""A task's entrypoint and command."""


def foreign(document: Document) -> Problem | None:
    """One sentence for a file that is no cube file, but of a kind that is known."""
    data = document.data
    if not isinstance(data, dict):
        return None
    hint = "`cube create` writes a file of today's layout to start from"
    if isinstance(data.get("tasks"), list) and all(isinstance(item, str) for item in data["tasks"]):
        what = "a cube of the layout of 2020, whose tasks are files of their own"
    elif "container" in data and ("io" in data or isinstance(data.get("tasks"), (list, dict))):
        what = "a cube of the prototype of 2021 (`container:`, `io:`)"
    elif any(isinstance(value, str) and "{{" in value for value in (*data, *data.values())):
        what = "a template from which a cube is made, not a cube"
    elif "platforms" in data and "tasks" not in data:
        what = "a settings file, not a cube"
        hint = "--mlcube PATH names a cube's folder"
    else:
        return None
    return Problem(message=f"this is {what}", position=document.at(()), hint=hint)


def is_medperf(document: Document) -> bool:
    """Whether this is MedPerf's `container_config.yaml`."""
    return isinstance(document.data, dict) and "container_type" in document.data


_MEDPERF_KEYS = {
    "the file": ("container_type", "image", "tasks", "name", "description", "additional_files", "hash", "image_hash"),
    "a task": ("input_volumes", "output_volumes", "run_args"),
    "a volume": ("mount_path", "type"),
    "run_args": ("command", "shm_size", "environment", "entrypoint"),
}


def as_cube(
    document: Document,
) -> tuple[dict[str, Any], dict[Key, Key], dict[str, MedperfCommand], list[Problem]]:
    """MedPerf's container file as the data of a cube file.

    Besides: where each of its places stands in the original, what each task runs, and the unknown keys.
    Raises InvalidFile for containers that cannot be run from here, and for files of another shape.
    """
    reading = _Medperf(document)
    data, section = document.data, "docker"
    if data["container_type"] == "SingularityFile":
        section = "singularity"
    elif data["container_type"] not in ("DockerImage", "DockerArchive"):
        message = f"a container of type `{data['container_type']}` cannot be run from here"
        reading.problem(message, ("container_type",), "DockerImage, DockerArchive and SingularityFile can")
    if not isinstance(data.get("image"), str) or not data["image"]:
        reading.problem("`image` must name the container", ("image",), "image: owner/name:tag")
    tasks = reading.mapping(data.get("tasks"), ("tasks",), "tasks: {NAME: {run_args: {command: ...}}}")
    if not tasks:
        reading.problem("`tasks` must hold at least one task", ("tasks",), "tasks: {NAME: {run_args: {command: ...}}}")
    reading.known(data, (), "the file")
    reading.places[(section, "image")] = ("image",)
    written = {name: reading.task(name, task) for name, task in tasks.items()}
    if any(problem.severity == "error" for problem in reading.problems):
        raise InvalidFile(tuple(reading.problems))
    cube = {"tasks": written, "platform": {"need_internet_access": False}, section: {"image": data["image"]}}
    described = {key: data[key] for key in ("name", "description") if key in data}
    return cube | described, reading.places, reading.commands, reading.problems


class _Medperf:
    """What has been read of MedPerf's container file."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.places: dict[Key, Key] = {}
        self.commands: dict[str, MedperfCommand] = {}
        self.problems: list[Problem] = []

    def problem(self, message: str, key: Key, hint: str | None = None) -> None:
        self.problems.append(Problem(message=message, position=self.document.at(key), hint=hint))

    def mapping(self, written: Any, key: Key, hint: str) -> dict[str, Any]:
        """A mapping, which may be left out."""
        if written is not None and not isinstance(written, dict):
            self.problem(f"`{key[-1]}` must be a mapping, not {named(written)}", key, hint)
        return written if isinstance(written, dict) else {}

    def known(self, written: dict[str, Any], key: Key, what: str) -> None:
        for name in written:
            if name not in _MEDPERF_KEYS[what]:
                hint = did_you_mean(name, _MEDPERF_KEYS[what])
                position = self.document.at((*key, name), of_key=True)
                message = f"unknown key `{name}` in {what} of MedPerf's format"
                self.problems.append(Problem(message=message, position=position, hint=hint, severity="warning"))

    def task(self, name: str, written: Any) -> dict[str, Any]:
        """A task as the data of a cube file."""
        key: Key = ("tasks", name)
        task = self.mapping(written, key, "run_args: {command: ...}")
        self.known(task, key, "a task")
        parameters = {
            "inputs": self.volumes(task, key, "inputs", "input_volumes"),
            "outputs": self.volumes(task, key, "outputs", "output_volumes"),
        }
        result: dict[str, Any] = {"parameters": parameters}
        inner: Key = (*key, "run_args")
        arguments = self.mapping(task.get("run_args"), inner, "run_args: {command: ...}")
        self.known(arguments, inner, "run_args")
        if arguments.get("shm_size") is not None:
            result["resources"] = {"shared_memory": arguments["shm_size"]}
            self.places |= {(*key, "resources", "shared_memory"): (*inner, "shm_size")}
        if "environment" in arguments:
            result["environment"] = arguments["environment"]
            self.places |= {(*key, "environment"): (*inner, "environment")}
        self.commands[name] = (
            self.words(arguments.get("entrypoint"), (*inner, "entrypoint")),
            self.words(arguments.get("command"), (*inner, "command")),
        )
        return result

    def volumes(self, task: dict[str, Any], key: Key, side: str, written: str) -> dict[str, Any]:
        """Volumes as parameters; the author chose where each is mounted."""
        result = {}
        hint = "NAME: {mount_path: /data, type: directory}"
        for volume, what in self.mapping(task.get(written), (*key, written), f"{written}: {{{hint}}}").items():
            origin: Key = (*key, written, volume)
            place: Key = (*key, "parameters", side, volume)
            self.places |= {place: origin, (*place, "mount"): (*origin, "mount_path")}
            known = self.mapping(what, origin, hint)
            self.known(known, origin, "a volume")
            if known and not isinstance(known.get("mount_path"), str):
                self.problem(f"volume `{volume}` needs a `mount_path`", origin, hint)
            kind = known.get("type", "directory")
            if kind not in ("file", "directory"):
                self.problem(f"`type` must be one of `file`, `directory`, not `{kind}`", (*origin, "type"))
            result[volume] = {"type": kind, "mount": known.get("mount_path"), "default": volume}
        return result

    def words(self, written: Any, key: Key) -> list[str]:
        """A command as words."""
        try:
            return _as_words(written)
        except ValueError:
            self.problem("the quotes in this command do not match", key, "quote both ends, or write a list")
            return []


def _as_words(value: Any) -> list[str]:
    if value is None:
        return []
    return words(value) if isinstance(value, (str, list)) else [str(value)]
