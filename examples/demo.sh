#!/bin/sh
# From nothing to a trained and evaluated model: what `make demo` runs. Everything goes into .demo.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
demo=$PWD/.demo

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo 'error: cube needs Python 3.10 or newer' >&2
  echo 'hint: name one: make demo PYTHON=python3.11' >&2
  exit 1
}

export CUBE_CACHE_DIR="$demo/cache" CUBE_STATE_DIR="$demo/state" CUBE_CONFIG_DIR="$demo/config"
cube=$demo/venv/bin/cube

if [ ! -x "$cube" ] || [ pyproject.toml -nt "$demo/venv/.ready" ]; then
  echo "setting up cube in .demo ..." >&2
  "$python" -m venv "$demo/venv"
  "$demo/venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[local]'
  touch "$demo/venv/.ready"
fi

"$cube" run --mlcube examples/digits --task prepare,train,evaluate --platform local --workspace "$demo/workspace" >&2

accuracy=$(sed -n 's/.*"accuracy": *\([0-9.]*\).*/\1/p' "$demo/workspace/metrics/metrics.json" | head -n 1)
cat <<END

A small neural network learned to read handwritten digits, and was measured on images that it had not seen.

  accuracy  $(awk "BEGIN { printf \"%.1f %%\", 100 * $accuracy }")
  outputs   .demo/workspace/data, .demo/workspace/model, .demo/workspace/metrics
  records   .demo/state/runs

Try next:

  .demo/venv/bin/cube describe --mlcube examples/digits
  .demo/venv/bin/cube run --mlcube examples/digits --task train --workspace .demo/workspace epochs=50
  .demo/venv/bin/cube create .demo/my-model && .demo/venv/bin/cube run --mlcube .demo/my-model --platform local
END
