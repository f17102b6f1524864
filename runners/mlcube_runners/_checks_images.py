"""Where an image that is not there yet would come from: engines that may hold it, and its registry."""

from collections.abc import Iterable

from mlcube.checking import Check, no, not_asked, yes
from mlcube.runner import Answer, Fact
from mlcube_runners._container import full_name

__all__ = ["engine_fact", "engine_facts", "registry_fact"]

# What answers at all is there, whatever it answers. Engines take a registry of this machine without encryption.
_ASK = """\
host=$1 path=$2
types='application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json,
 application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json'
types=$(echo "$types" | tr -d '\\n')
ask() {
  if command -v curl >/dev/null 2>&1; then
    curl -sS -I -o /dev/null -m 5 -w '%{http_code}' -H "Accept: $types" "$1$path" 2>&1
  elif command -v wget >/dev/null 2>&1; then
    said=$(wget -q -S --spider -t 1 -T 5 --header="Accept: $types" "$1$path" 2>&1)
    code=$(echo "$said" | awk '$1 ~ /^HTTP/ { code = $2 } END { print code }')
    echo "${code:-$said}"
  else echo unasked; fi
}
said=$(ask "https://$host")
case $host:$said in
  localhost*:[2-5][0-9][0-9] | 127.*:[2-5][0-9][0-9]) ;;
  localhost* | 127.*) said=$(ask "http://$host") ;;
esac
echo "$said" | tail -n 1
"""
"""HOST PATH"""


def registry_fact(image: str) -> Fact:
    """Whether the registry of an image answers, and has it."""
    host, _, rest = full_name(image.removeprefix("docker://")).partition("/")
    name, _, digest = rest.partition("@")
    name, colon, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    address = "registry-1.docker.io" if host == "docker.io" else host
    path = f"/v2/{name}/manifests/{digest or (tag if colon else 'latest')}"

    def parse(answer: Answer) -> Check:
        return _registry(image, host, answer)

    return Fact(name="registry", argv=("sh", "-c", _ASK, "sh", address, path), parse=parse)


def _registry(image: str, host: str, answer: Answer) -> Check:
    said = answer.output.strip() or answer.error.strip()
    match said:
        case "unasked":
            return not_asked("registry", f"there is neither `curl` nor `wget` to ask `{host}` with")
        case "200":
            return yes("registry", f"`{host}` has `{image}`")
        case "401" | "403":
            return yes("registry", f"`{host}` answers; whether you may have `{image}` shows when it is pulled")
        case "404":
            return no("registry", f"`{host}` answers, and has no `{image}`", "check the name and the tag, or push it")
        case "429":
            return no("registry", f"`{host}` answers that you ask too often", "log in, or wait a while")
    if said.isdecimal() and said != "000":
        return no("registry", f"`{host}` answers, with status {said}", "try again later, or ask who runs it")
    reason = said.removesuffix("000").rpartition(") ")[2].strip() or f"status {answer.status}"
    reason = reason[:1].lower() + reason[1:]
    mend = f"see what `curl -I https://{host}/v2/` says; where there is no network, bring the image as an archive"
    return no("registry", f"`{host}` cannot be reached: {reason}", mend)


def engine_fact(engine: str, image: str, *, name: str = "image in engine", sent: bool = False) -> Fact:
    """Whether an engine has the image that another runner would take from it, or that would be sent."""

    def parse(answer: Answer) -> Check:
        what = "it would be sent from here" if sent else "it is taken from there"
        if answer.status == 0 and answer.output.strip():
            return yes(name, f"`{engine}` has `{image}`: {what}")
        return no(name, f"`{engine}` does not have `{image}`")

    return Fact(name=f"{name} {engine}", argv=(engine, "image", "inspect", "--format", "{{.Id}}", image), parse=parse)


def engine_facts(engines: Iterable[str], image: str) -> tuple[Fact, ...]:
    """The same of all that can be asked, and the registry as the last resort."""
    held = (engine_fact(engine, image) for engine in engines if engine in ("docker", "podman"))
    return *held, registry_fact(image)
