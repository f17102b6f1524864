"""From a cube file of the right shape to its meaning: the second half of reading, where values are judged."""

import os.path
from collections.abc import Mapping
from typing import Any

import msgspec

from mlcube.compatibility import MedperfCommand
from mlcube.cube import Cube, Image, PythonEnvironment
from mlcube.document import CubeFile, PythonFile
from mlcube.layers import Layers
from mlcube.reading.images import image, python_environment, without_effect
from mlcube.reading.needs import base_resources, raw_needs
from mlcube.reading.report import Report
from mlcube.reading.tasks import understood_task
from mlcube.source import Key

__all__ = ["need_no_consent", "need_output_types", "understood_cube"]


def understood_cube(
    report: Report,
    content: CubeFile,
    *,
    file: str,
    commands: Mapping[str, MedperfCommand],
    has_python: bool,
    trust: bool,
) -> Cube:
    """The cube that a file describes; worth something only if the report has no error."""
    root = os.path.dirname(file)
    cpu_needs, gpu_needs = raw_needs(report, content, trust=trust)
    python = python_environment(report, root, content.python or PythonFile()) if has_python else None
    alone = content.singularity is None and not has_python
    found = image(report, root, content.docker, alone=alone, trust=trust) if content.docker else None
    _need_a_home(report, content, found, python)
    base = base_resources(report, content.platform)
    tasks = {
        name: understood_task(report, content, name, command=commands.get(name), base=base, python=python, trust=trust)
        for name in content.tasks
    }
    where = report.where
    return Cube(
        name=report.text(content.name, "name") or os.path.basename(root) or "cube",
        file=file,
        root=root,
        digest=_digest(report.layers, content),
        version=report.text(content.version, "version"),
        description=report.text(content.description, "description"),
        authors=_authors(content),
        license=content.license,
        links=content.links or {},
        tasks=tasks,
        image=found,
        singularity=_present(content.singularity),
        python=python,
        cpu_needs=cpu_needs,
        gpu_needs=gpu_needs,
        trusted=trust,
        where=lambda key: where(key, False),
    )


def _need_a_home(report: Report, content: CubeFile, found: Image | None, python: PythonEnvironment | None) -> None:
    """Something must say what the tasks run in, and only one thing."""
    singularity = content.singularity
    if singularity and singularity.singularity not in (None, "singularity", "apptainer"):
        without_effect(report, "singularity", "singularity")
    if found is not None and python is not None:
        hint = "keep one; `python.image` names the image to build on"
        report.error("`docker.image` and `python:` both say what the tasks run in", "python", hint=hint, of_key=True)
    sif = singularity is not None and (singularity.image or singularity.build_file)
    told = (content.docker and report.failed) or report.spoiled & {("docker",), ("singularity",), ("python",)}
    if not (found or python or sif or told):
        hint = "add `docker: {image: NAME}`, or `python: {requirements: [...]}` for a cube without a Dockerfile"
        report.error("the cube names neither an image (`docker.image`) nor a `python:` section", hint=hint)


def need_no_consent(report: Report, cube: Cube) -> None:
    """What opens the host is a problem of a cube that is to be published or checked."""
    of_tasks = (refusal for task in cube.tasks.values() for refusal in task.refused)
    for refusal in cube.image.refused if cube.image else ():
        hint = "put the cube beside what its image is built of, or run with --trust"
        report.error_at(refusal.position, refusal.message, hint=hint)
    for refusal in dict.fromkeys((*cube.cpu_needs.refused, *cube.gpu_needs.refused, *of_tasks)):
        hint = "say what is needed in neutral words (`resources`, `network`), or run with --trust"
        report.error_at(refusal.position, refusal.message, hint=hint)


def need_output_types(report: Report, cube: Cube) -> None:
    """What an output will be cannot be seen on disk."""
    for task in cube.tasks.values():
        for output in task.outputs:
            key: Key = ("tasks", task.name, "parameters", "outputs", output.name)
            if key not in report.spoiled and output.type is None and not str(output.default).endswith(("/", "\\")):
                message = f"nothing says whether output `{output.name}` is a file or a directory"
                hint = "add `type: file` or `type: directory`, or end a directory's path with `/`"
                report.error(message, *key, hint=hint)


def _authors(content: CubeFile) -> tuple[str, ...]:
    if isinstance(content.authors, str):
        return (content.authors,)
    named = [item if isinstance(item, str) else str(item.get("name", "")) for item in content.authors or []]
    return tuple(name for name in named if name)


def _digest(layers: Layers, content: CubeFile) -> str:
    """Of what was written, before `${...}` is resolved: the same wherever the cube lies.

    The order of keys does not matter, except that of parameters: by it they are numbered and become arguments.
    """
    import hashlib

    order = {}
    for name, task in content.tasks.items():
        parameters = task.parameters if task else None
        order[name] = [list((getattr(parameters, side, None)) or ()) for side in ("inputs", "outputs")]
    written = msgspec.json.encode((layers.unresolved(), order), order="sorted")
    return "sha256:" + hashlib.sha256(written).hexdigest()


def _present(section: msgspec.Struct | None) -> dict[str, Any]:
    if section is None:
        return {}
    return {key: value for key, value in msgspec.structs.asdict(section).items() if value is not None}
