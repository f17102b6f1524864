#!/usr/bin/env bash
# An OCI registry (Debian's docker-registry) on 127.0.0.1:5000, without TLS; emptied at `down`.
source "$(dirname "$0")/lib.sh"
PORT=${REGISTRY_PORT:-5000}; D="$STATE/registry"
case ${1:-up} in
  up)
    need docker-registry curl
    mkdir -p "$D"
    cat >"$STATE/registry.yml" <<K
version: 0.1
storage: {filesystem: {rootdirectory: $D}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$PORT"}
K
    # Docker takes loopback addresses without TLS; Podman, skopeo and Apptainer must be told.
    mkdir -p /etc/containers/registries.conf.d
    printf '[[registry]]\nlocation = "127.0.0.1:%s"\ninsecure = true\n' "$PORT" >/etc/containers/registries.conf.d/cube-tests.conf
    start registry docker-registry serve "$STATE/registry.yml"
    until_ok 10 curl -fsS "http://127.0.0.1:$PORT/v2/"
    ;;
  down) stop registry; rm -rf "$D" /etc/containers/registries.conf.d/cube-tests.conf ;;
esac
