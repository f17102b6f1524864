#!/usr/bin/env bash
# A second Docker daemon, which maps the users of its containers to subordinate ids (--userns-remap).
# It has a state, a socket and no network of its own: DOCKER_HOST=unix://$STATE/remapped/docker.sock
source "$(dirname "$0")/lib.sh"
HERE="$STATE/remapped"
SOCKET="unix://$HERE/docker.sock"
case ${1:-up} in
  up)
    DOCKER_HOST=$SOCKET docker info >/dev/null 2>&1 && exit 0
    need docker.io
    mkdir -p "$HERE"
    grep -q '^dockremap:' /etc/subuid || {
      id dockremap >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin dockremap
      echo dockremap:400000:65536 >>/etc/subuid
      echo dockremap:400000:65536 >>/etc/subgid
    }
    chmod a+x "$STATE" "$HERE" # so that the mapped ids reach the images
    # In a network namespace of its own: with --bridge=none dockerd deletes `docker0`, which belongs to the first one.
    start dockerd-remapped unshare --net dockerd --userns-remap=default --host="$SOCKET" --data-root="$HERE/data" \
      --exec-root="$HERE/exec" --pidfile="$HERE/dockerd.pid" --bridge=none --iptables=false
    until_ok 30 env DOCKER_HOST="$SOCKET" docker info
    image=${BASE_IMAGE:-cube-test/python:3.11}
    DOCKER_HOST=$SOCKET docker image inspect "$image" >/dev/null 2>&1 || docker save "$image" | DOCKER_HOST=$SOCKET docker load >&2
    echo "$SOCKET"
    ;;
  down) stop dockerd-remapped ;;
esac
