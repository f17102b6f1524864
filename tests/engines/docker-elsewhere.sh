#!/usr/bin/env bash
# A Docker daemon that believes to be on another host, behind a port of the loopback as a tunnel would be:
# DOCKER_HOST=tcp://127.0.0.1:23750. It cannot be told from one that really is elsewhere.
source "$(dirname "$0")/lib.sh"
HERE="$STATE/elsewhere"
SOCKET=tcp://127.0.0.1:${DOCKER_ELSEWHERE_PORT:-23750}
BRIDGE=cube-elsewhere
case ${1:-up} in
  up)
    DOCKER_HOST=$SOCKET docker info >/dev/null 2>&1 && exit 0
    need docker.io iproute2
    mkdir -p "$HERE"
    # A bridge of its own: with --bridge=none dockerd deletes `docker0`, which belongs to the first one.
    ip link show "$BRIDGE" >/dev/null 2>&1 || ip link add "$BRIDGE" type bridge
    ip addr replace 172.31.255.241/28 dev "$BRIDGE"
    start dockerd-elsewhere unshare --uts sh -c 'hostname far-away && exec "$@"' sh \
      dockerd --host="$SOCKET" --tls=false --data-root="$HERE/data" --exec-root="$HERE/exec" \
      --pidfile="$HERE/dockerd.pid" --bridge="$BRIDGE" --iptables=false
    until_ok 40 env DOCKER_HOST="$SOCKET" docker info
    echo "$SOCKET"
    ;;
  down)
    stop dockerd-elsewhere
    ip link delete "$BRIDGE" 2>/dev/null || true
    ;;
esac
