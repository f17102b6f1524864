#!/usr/bin/env bash
# Runs pytest as an ordinary user with rootless Podman and bubblewrap. Needs `podman.sh` and `sandbox.sh` first; takes
# pytest's arguments. The user's Python is the system's own.
source "$(dirname "$0")/lib.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)
user=${CUBE_TEST_USER:-cube-tests}
image=${CUBE_TEST_IMAGE:-python:3.11-slim}
archive="$STATE/base-image-$(printf %s "$image" | tr -c a-z0-9 -).podman.tar"
ordinary_user "$user" # also gives it subordinate ids
home=$(getent passwd "$user" | cut -d: -f6)
[ -s "$archive" ] || podman save --quiet --output "$archive" "$image"
chmod a+r "$archive"
# Tests have homes of their own, and Podman would look for images there.
cat >"$home/storage.conf" <<K
[storage]
driver = "overlay"
rootless_storage_path = "$home/images"
runroot = "/tmp/containers-$user"
K
packages=$("${PYTHON:-$root/.venv/bin/python}" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
as_user=(runuser -u "$user" -- env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$home" USER="$user" LANG=C.UTF-8
  CONTAINERS_STORAGE_CONF="$home/storage.conf" CUBE_TEST_IMAGE="$image")
cd "$home" # Podman starts itself again where it stands, and the user must be able to stand there
"${as_user[@]}" podman image exists "$image" || "${as_user[@]}" podman load --quiet --input "$archive" >/dev/null
"${as_user[@]}" podman tag "$image" "docker.io/library/$image"
cd "$root"
exec "${as_user[@]}" PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$root:$root/runners:$packages" \
  CUBE_REQUIRE_ENGINES=podman,sandbox /usr/bin/python3 -m pytest -o cache_dir="$home/.cache/mlcube-tests/$(basename "$0" .sh)" "$@"
