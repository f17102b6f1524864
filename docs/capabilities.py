"""Writes docs/reference/capabilities.md out of what the conformance suite observed; with --check, compares the two.

capabilities.py RESULTS            writes the page
capabilities.py --check RESULTS... says where the page disagrees with what was observed, of whatever was asked. Of a
                                   test that ran again, the last of several files tells the outcome
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from mlcube.conformance.promises import PROMISES
from mlcube.conformance.results import Observations, Verdict, verdicts
from mlcube.runner import ORDER

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/reference/capabilities.md"
HEAD = """\
<!-- Generated from what the conformance suite observed, by `make capabilities`. -->
# Which runner keeps which promise

The numbers are those of [what every runner owes a task](conformance.md), where each is a paragraph. *kept*: every
test passed. *refused*: before anything runs, with the reason below and what to do; nothing is ever run with less.
*excepted*: the promise itself says who need not keep it. *kept in part*: but for what the notes name. All of it was
observed on real engines; a machine says it of itself with `cube conformance PLATFORM`, and another one may refuse
less, or more.
"""
SEPARATOR = "; "


def main(arguments: Sequence[str]) -> int:
    """Write the page, or compare it."""
    check, paths = "--check" in arguments, [each for each in arguments if each != "--check"]
    last = {
        (each.subject, each.promise, each.test): each
        for path in sorted(paths, key=lambda path: Path(path).stat().st_mtime)
        for each in msgspec.json.decode(Path(path).read_bytes(), type=Observations).observations
    }
    observed = Observations(observations=tuple(last.values()))
    if not check:
        PAGE.write_text(page(observed), encoding="utf-8")
        return 0
    differences = list(disagreements(read(PAGE.read_text(encoding="utf-8")), observed))
    for line in differences:
        print(line)
    return 1 if differences else 0


def page(observed: Observations) -> str:
    """One column for each runner, one row for each promise, and the reasons as notes."""
    table = {name: verdicts(name, observed.observations) for name in sorted(observed.subjects, key=_place)}
    notes: dict[str, int] = {}
    rows = [["", "promise", *table], ["--:", ":--", *(":--" for _ in table)]]
    for at, (number, sentence) in enumerate(PROMISES.items()):
        rows.append([str(number), sentence, *(_cell(verdicts_of[at], notes) for verdicts_of in table.values())])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([HEAD, *lines, "", *(f"[^{number}]: {reason}" for reason, number in notes.items()), ""])


def _place(subject: str) -> tuple[int, int, str]:
    """Engines in the order in which they are asked, then what wraps them."""
    return subject.count("("), ORDER.index(subject) if subject in ORDER else len(ORDER), subject


def _cell(verdict: Verdict, notes: dict[str, int]) -> str:
    bare = str(msgspec.structs.replace(verdict, reasons=()))
    word = "kept in part" if bare == "kept" and verdict.reasons else bare
    marks = (f"[^{notes.setdefault(reason, len(notes) + 1)}]" for reason in verdict.reasons)
    return word + "".join(marks)


def read(text: str) -> Mapping[tuple[str, int], str]:
    """What a page says of each runner and promise, in the words of a `Verdict`."""
    notes = dict(re.findall(r"^\[\^(\d+)\]: (.*)$", text, flags=re.MULTILINE))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    found = {}
    for row in rows[2:]:
        for name, cell in zip(rows[0][2:], row[2:], strict=True):
            reasons = SEPARATOR.join(notes[mark] for mark in re.findall(r"\[\^(\d+)\]", cell))
            word = cell.partition("[^")[0]
            found[name, int(row[0])] = f"{word} ({reasons})" if reasons else word
    return found


def disagreements(written: Mapping[tuple[str, int], str], observed: Observations) -> list[str]:
    """Where a page says something else than what was observed."""
    lines = []
    for subject in observed.subjects:
        for verdict in verdicts(subject, observed.observations):
            says = written.get((subject, verdict.promise), "nothing")
            if verdict.verdict != "not asked" and says != str(verdict):
                lines.append(f"{subject}, promise {verdict.promise}: the page says {says}; observed: {verdict}")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
