#!/usr/bin/env bash
# Runs pytest as an ordinary user whose files lie on a volume of the cluster and are used in place. Needs `docker.sh`,
# `base-image.sh`, `registry.sh` and `kubernetes.sh` first; takes pytest's arguments. The user's Python is the system's own.
source "$(dirname "$0")/lib.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)
user=${CUBE_TEST_USER:-cube-tests}
place=$STATE/claim
ordinary_user "$user"
install -d -o "$user" -m 700 "$place"
admin=$STATE/kubernetes/kubeconfig
own=$STATE/claim.kubeconfig
install -o "$user" -m 600 "$admin" "$own"
kubectl --kubeconfig="$admin" apply --filename=- >&2 <<END
apiVersion: v1
kind: PersistentVolume
metadata: {name: cube-tests}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  hostPath: {path: $place}
  claimRef: {namespace: default, name: cube-tests}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: cube-tests, namespace: default}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  volumeName: cube-tests
  resources: {requests: {storage: 1Gi}}
END
until [ "$(kubectl --kubeconfig="$admin" get persistentvolumeclaim cube-tests --output='jsonpath={.status.phase}')" = Bound ]; do
  sleep 1
done
packages=$("${PYTHON:-$root/.venv/bin/python}" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
docker=$(stat -c %G /var/run/docker.sock) # images are pushed by Docker
home=$(getent passwd "$user" | cut -d: -f6)
cd "$root"
exec runuser -u "$user" -G "$docker" -- env -i PATH=/usr/local/bin:/usr/bin:/bin \
  HOME="$home" USER="$user" LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
  PYTHONPATH="$root:$root/runners:$packages" TMPDIR="$place" CUBE_TEST_IMAGE="${CUBE_TEST_IMAGE:-cube-test/python:3.11}" \
  CUBE_TEST_KUBECONFIG="$own" CUBE_TEST_CLAIM="$place" CUBE_REQUIRE_ENGINES=kubernetes,docker \
  /usr/bin/python3 -m pytest -o cache_dir="$home/.cache/mlcube-tests/$(basename "$0" .sh)" --basetemp="$place/tests" "$@"
