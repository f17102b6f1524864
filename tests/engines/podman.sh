#!/usr/bin/env bash
# Podman from Debian. On a host with hybrid cgroups crun refuses to start, so runc runs the containers;
# a host without CAP_SYS_RESOURCE cannot raise limits, so they are set no higher than what stands.
source "$(dirname "$0")/lib.sh"
case ${1:-up} in
  up)
    need podman runc netavark aardvark-dns uidmap fuse-overlayfs slirp4netns catatonit
    mkdir -p /etc/containers
    ours='# Written by tests/engines/podman.sh of mlcube.' conf=/etc/containers/containers.conf
    text="$ours
[containers]
default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]
[engine]
runtime = \"runc\"
cgroup_manager = \"cgroupfs\""
    if [ "$(cat $conf 2>/dev/null)" = "${text#*$'\n'}" ]; then rm $conf; fi # ours too, of before it had a mark
    if [ ! -e $conf ] || [ "$(head -n1 $conf)" = "$ours" ]; then
      printf '%s\n' "$text" >$conf
    elif ! podman info >/dev/null 2>&1; then
      say "$conf is not ours and is left as it is, but podman does not work with it; what works here is:"
      say "$text"; exit 1
    fi
    # Some machines keep this from ordinary users, who then have no network in containers.
    [ -c /dev/net/tun ] && chmod 666 /dev/net/tun
    podman info >/dev/null
    # The base image, from Docker: no registry can be reached. Under its full name too, which FROM is resolved to.
    image=${CUBE_TEST_IMAGE:-python:3.11-slim}
    podman image exists "$image" || docker save "$image" | podman load --quiet >/dev/null
    podman tag "$image" "docker.io/library/$image"
    ;;
  down) : ;;
esac
