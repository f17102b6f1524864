"""Lines of shell for another host."""

import shlex

from mlcube.plan import Step

__all__ = ["end_preparing", "never_failing", "removal"]


def end_preparing(directory: str) -> str:
    """Ends what prepares an image there."""
    file = shlex.quote(f"{directory}/preparing")
    return f"[ ! -e {file} ] || kill -s TERM -- \"-$(tr -d ' ' <{file})\" 2>/dev/null || :"


def removal(directory: str) -> str:
    """Also of directories that the task has made read-only."""
    quoted = shlex.quote(directory)
    return f"rm -rf -- {quoted} 2>/dev/null || {{ chmod -R u+rwX {quoted}; rm -rf -- {quoted}; }}"


def never_failing(steps: tuple[Step, ...]) -> str:
    """Steps of which each is tried."""
    return "".join(f"{{ {step.script()}\n}} 2>/dev/null || :\n" for step in steps)
