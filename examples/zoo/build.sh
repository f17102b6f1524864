#!/usr/bin/env bash
# Builds a zoo of the examples in `site/`; with a registry (`build.sh 127.0.0.1:5000/examples`) of what it publishes there.
set -euo pipefail
cd "$(dirname "$0")"
registry=${1:-}
if [ -z "$registry" ]; then
  cube zoo build cubes.txt -o site --title "Examples"
else
  cube publish ../digits "oci://$registry/digits:1.0.0"
  cube publish ../hello_world "oci://$registry/hello-world:1.0.0" --no-image
  cube zoo build "oci://$registry/digits" "oci://$registry/hello-world" -o site --title "Examples"
fi
echo "open $PWD/site/index.html"
