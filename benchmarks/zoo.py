"""What a zoo of many cubes takes: `cube zoo build` of generated folders, and its search page in Chromium.

python benchmarks/zoo.py [COUNT] [--in FOLDER]
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "runners")]

_WORDS = (
    *("image", "text", "speech", "protein", "lung", "retina", "crop", "traffic", "weather", "satellite", "heart"),
    *("brain", "digit", "face", "music", "river", "forest", "classifier", "detector", "segmenter", "encoder"),
    *("translator", "generator", "ranker", "forecaster", "small", "large", "robust", "fast", "tiny", "deep"),
)
_LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "GPL-3.0-only")
_CUBE = """\
name: {name}
version: {version}
description: {about}
authors: [{{name: {author}, email: {author}@example.org}}]
license: {licence}
docker:
  image: example/{name}:{version}
tasks:
  prepare:
    description: Split the data.
    parameters:
      inputs: {{raw: {{type: directory, default: raw/}}, seed: {{type: integer, default: 7}}}}
      outputs: {{data: {{type: directory, default: data/}}}}
  train:
    description: Train it.
    parameters:
      inputs:
        data: {{type: directory, default: data/, description: What `prepare` wrote.}}
        epochs: {{type: integer, default: 25, minimum: 1, maximum: 500, description: Passes over the data.}}
      outputs: {{model: {{type: directory, default: model/}}}}
    resources: {{gpus: {gpus}}}
  infer:
    parameters:
      inputs: {{model: {{type: directory, default: model/}}, images: {{type: directory, default: images/}}}}
      outputs: {{predictions: {{type: file, default: predictions.csv}}}}
"""
_CARD = """\
# {name}

{about}

| what | how much |
|---|---|
| accuracy | **0.{digits}** |
| parameters | {digits} million |

## Model card

**Data.** [The {word} collection](https://example.org/{word}), of {digits} thousand samples.

**Meant for** research. *Not meant for* decisions about people.

```
cube run --task train epochs=60
```
"""
_MEASURE = """
const done = arguments[0];
return new Promise((resolve) => {
  const words = document.getElementById("q");
  const times = [];
  const texts = [];
  for (const word of done) for (let end = 1; end <= word.length; end += 1) texts.push(word.slice(0, end));
  let next = 0;
  function step() {
    if (next >= texts.length) { resolve(times); return; }
    const begun = performance.now();
    words.value = texts[next++];
    words.dispatchEvent(new Event("input"));
    document.body.offsetHeight;
    times.push(performance.now() - begun);
    requestAnimationFrame(step);
  }
  requestAnimationFrame(step);
});
"""


def generate(folder: Path, count: int) -> None:
    """Folders of cubes, the same each time."""
    chance = random.Random(7)
    for number in range(count):
        word = chance.choice(_WORDS)
        name = f"{word}-{chance.choice(_WORDS)}-{number}"
        about = f"A {' '.join(chance.choices(_WORDS, k=8))} of {word}s."
        cube = folder / f"cube{number}"
        cube.mkdir(parents=True)
        version = f"{number % 3}.{number % 10}.0"
        text = _CUBE.format(
            name=name,
            version=version,
            about=about,
            author=chance.choice(_WORDS),
            licence=chance.choice(_LICENCES),
            gpus=number % 2,
        )
        (cube / "mlcube.yaml").write_text(text)
        (cube / "README.md").write_text(_CARD.format(name=name, about=about, digits=number % 100, word=word))


def build(cubes: Path, site: Path) -> dict[str, Any]:
    """What the command takes."""
    argv = [sys.executable, "-m", "mlcube", "zoo", "build", str(cubes), "-o", str(site), "--title", "Many"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CUBE_", "PYTHON"))}
    environment = {**inherited, "PYTHONPATH": f"{ROOT}:{ROOT / 'runners'}"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    subprocess.run(argv, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.monotonic() - begun, 2),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "index_bytes": (site / "index.json").stat().st_size,
        "script_bytes": (site / "assets/index.js").stat().st_size,
    }


def work(browser: Any) -> float:
    """The processor seconds that the page's own thread has taken, whoever else wanted the processor."""
    found = {each["name"]: each["value"] for each in browser.devtools("Performance.getMetrics", {})["metrics"]}
    return float(found["ThreadTime"] if found.get("ThreadTime") else found["TaskDuration"])


def look(site: Path, scratch: Path) -> dict[str, Any]:
    """What the search page takes in a browser."""
    from tests.pages.browser import Browser

    with Browser(scratch) as browser:
        ready = []
        for _ in range(3):
            browser.open(f"file://{site}/index.html")
            ready.append(browser.run("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
        words = ["digit", "classifier", "lung segmenter", "zzz", "apache"]
        browser.devtools("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
        browser.devtools("Performance.enable", {})
        before = work(browser)
        times = sorted(browser.run(_MEASURE, words))
        worked = work(browser) - before
        return {
            "interactive_ms": round(statistics.median(ready), 1),
            "keystrokes": len(times),
            "keystroke_ms_median": round(statistics.median(times), 2),
            "keystroke_ms_worst": round(times[-1], 2),
            "keystroke_processor_ms": round(worked / len(times) * 1000, 2),
            "found": browser.text("#count"),
        }


def main() -> int:
    """Print all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--in", dest="folder", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        place = Path(scratch)
        generate(place / "cubes", given.count)
        built = build(place / "cubes", place / "site")
        print(json.dumps({"cubes": given.count, "build": built, "page": look(place / "site", place)}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
