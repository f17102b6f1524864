#!/usr/bin/env bash
# Runs pytest as an ordinary user, without Docker, root or capabilities: what a cluster is. Needs `docker.sh`,
# `base-image.sh` and `apptainer.sh` first; takes pytest's arguments. The user's Python is the system's own.
source "$(dirname "$0")/lib.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)
user=${CUBE_TEST_USER:-cube-tests}
archive="$STATE/base-image.docker.tar"
ordinary_user "$user"
[ -s "$archive" ] || docker save --output "$archive" "${CUBE_TEST_IMAGE:-python:3.11-slim}"
chmod a+r "$archive"
packages=$("${PYTHON:-$root/.venv/bin/python}" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
home=$(getent passwd "$user" | cut -d: -f6)
cd "$root"
exec runuser -u "$user" -- env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$home" USER="$user" \
  LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$root:$root/runners:$packages" \
  CUBE_TEST_IMAGE="docker-archive:$archive" CUBE_REQUIRE_ENGINES=singularity \
  /usr/bin/python3 -m pytest -o cache_dir="$home/.cache/mlcube-tests/$(basename "$0" .sh)" "$@"
