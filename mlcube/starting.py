"""Starts processes: no other module does."""

import os
from collections.abc import Mapping

from mlcube import files
from mlcube.child import Child
from mlcube.failures import content, why
from mlcube.plan import Command
from mlcube.redaction import hiding
from mlcube.stream import Log, Outlet, Route
from mlcube.withheld import PASSWORD, without_password

__all__ = ["start"]


def start(
    command: Command,
    log: Log,
    secrets: Mapping[str, str],
    outlets: tuple[int | None, int | None] | None,
    keep: int = 0,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Child:
    """Start a command in a session of its own; its output goes to the log and to the outlets, or nowhere if None."""
    import subprocess

    environment: dict[str, str] | None = None
    if command.clean or command.environment or command.secrets or PASSWORD in os.environ:
        environment = without_password({**({} if command.clean else os.environ), **command.environment})
        environment.update({name: secrets[name] for name in command.secrets if name in secrets})
    target = subprocess.DEVNULL if outlets is None else subprocess.PIPE
    own = None
    if command.input is not None:
        own = stdin = files.unnamed(content(command.input, secrets))
    try:
        process = subprocess.Popen(
            command.argv,
            bufsize=0,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=target if stdout is None else stdout,
            stderr=target if stderr is None else stderr,
            cwd=command.directory,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise why(error, command) from None
    finally:
        if own is not None:
            os.close(own)
    routes: list[Route] = []
    for pipe, descriptor in zip((process.stdout, process.stderr), outlets or (None, None), strict=True):
        if pipe is not None:
            source = os.dup(pipe.fileno())
            pipe.close()
            outlet = None if descriptor is None else Outlet(descriptor)
            routes.append(Route(source, log, outlet, keep, hiding(secrets)))
    return Child(process, tuple(routes))
