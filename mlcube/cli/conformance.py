"""`cube conformance`: a platform is held to what every runner owes a task, for real."""

from typing import TYPE_CHECKING, Annotated

from mlcube.cli import console
from mlcube.cli.arguments import Json, complete_platforms
from mlcube.cli.declared import argument, option
from mlcube.errors import EngineUnavailable, escaped
from mlcube.files import write

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlcube.conformance.results import Observation

EXAMPLE = """\b
Examples:
  cube conformance docker
  cube conformance cluster -k 'test_9_ or test_12_' --output cluster.txt
"""

PlatformWord = Annotated[
    str, argument(metavar="PLATFORM", help="what is asked, see `cube platforms`", autocompletion=complete_platforms)
]
Output = Annotated[str | None, option("--output", metavar="FILE", help="write the table there, not to stdout")]
Expression = Annotated[str | None, option("-k", metavar="EXPRESSION", help="only the tests that pytest's -k chooses")]
Image = Annotated[
    str | None,
    option("--image", metavar="IMAGE", help="what the probe starts from, else $CUBE_TEST_IMAGE, or python:3.11-slim"),
]


def command(
    platform: PlatformWord,
    expression: Expression = None,
    image: Image = None,
    output: Output = None,
    as_json: Json = False,
) -> int:
    """Run the conformance suite against a platform, and print which promises it keeps, refuses or breaks.

    The numbers are those of docs/reference/conformance.md. It takes minutes. The probe's image stays in the engine's
    cache, as any cube's does.
    """
    from importlib.util import find_spec

    if find_spec("pytest") is None:
        raise EngineUnavailable(
            "`cube conformance` needs pytest, which is not installed", hint="pip install 'mlcube[conformance]'"
        )
    from mlcube.conformance import Subject
    from mlcube.conformance.results import verdicts
    from mlcube.conformance.running import run_suite
    from mlcube.host import gather
    from mlcube.platforms import resolve
    from mlcube.settings import read_settings

    settings = read_settings()
    console.warnings(settings.warnings)
    runner = resolve(settings, platform).runner
    host = gather(runner, fresh=True)
    if reason := runner.unusable(host):
        raise EngineUnavailable(f"platform `{platform}` cannot be used here: {reason[0]}", hint=reason[1])
    subject = Subject(name=platform, runner=runner, capable=host)
    noting = run_suite(subject, base_image=image, expression=expression, noted=_progress())
    for name, report in noting.failures:
        console.note(f"\n{name}\n{report}")
    found = [each for each in verdicts(platform, noting.observations) if each.verdict != "not asked"]
    if as_json:
        text = console.as_json({"platform": platform, "promises": found}).decode()
    else:
        width = max((len(each.sentence) for each in found), default=0)
        text = "\n".join(
            f"{each.promise:>2}  {escaped(each.sentence):<{width}}  {escaped(str(each))}" for each in found
        )
    if output:
        write(output, f"{text}\n".encode())
    else:
        console.result(text)
    return 1 if any(each.verdict == "broken" for each in found) else 0


def _progress() -> "Callable[[Observation, int], None]":
    """Tells each outcome as it comes, and how many there are."""
    count = 0

    def noted(observation: "Observation", total: int) -> None:
        nonlocal count
        count += 1
        reason = f" ({observation.reason})" if observation.reason else ""
        outcome = "BROKEN" if observation.outcome == "broken" else observation.outcome
        console.note(f"{count:>{len(str(total))}}/{total}  {observation.test}: {outcome}{reason}")

    return noted
