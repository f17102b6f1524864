"""MedPerf's `container_config.yaml`, which runs as it is, as a cube file that can be changed."""

import shlex
from typing import Any

from mlcube.compatibility import as_cube, is_medperf
from mlcube.importing.draft import Draft, Foreign, invalid, name_of

__all__ = ["draft"]


def draft(foreign: Foreign) -> Draft:
    """The cube file for a container file."""
    if not is_medperf(foreign.document):
        raise invalid(
            foreign,
            "this is no container file of MedPerf: it has no `container_type`",
            hint="container_type: DockerImage",
        )
    read, _, commands, warnings = as_cube(foreign.document)
    result = Draft(data={"name": name_of(foreign, read.get("name"))})
    result.data |= {key: read[key] for key in ("description", "platform", "docker", "singularity") if key in read}
    for problem in warnings:
        result.note(problem.message)
    tasks: dict[str, Any] = {}
    for name, task in read["tasks"].items():
        begins, rest = commands[name]
        words = [*begins, *rest]
        if words:
            # MedPerf's containers get these words and no parameters, which a shell's script leaves unread.
            task["entrypoint"] = ["sh", "-c", f"exec {shlex.join(words)}", "sh"]
            if not begins:
                result.note(f"the command of `{name}` runs instead of the image's entrypoint, if the image has one")
        tasks[name] = task
    result.data["tasks"] = tasks
    result.note(f"`{foreign.path.rpartition('/')[2]}` itself also runs as it is: --mlcube {foreign.path}")
    return result
