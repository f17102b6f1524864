#!/usr/bin/env bash
# Independent readers of what is published: skopeo from Debian, oras and cosign from its newer suites.
# The latter two are taken out of their packages into $ENGINES_STATE/witnesses, so that nothing else is upgraded.
source "$(dirname "$0")/lib.sh"
D="$STATE/witnesses"
case ${1:-up} in
  up)
    need skopeo
    for name in oras cosign; do
      [ -x "$D/bin/$name" ] && continue
      mkdir -p "$D/bin" "$D/$name"
      for suite in trixie sid; do
        (cd "$D/$name" && apt_from "$suite" -- download "$name") 2>"$STATE/log/witnesses.log" && break
      done
      dpkg-deb --extract "$D/$name"/*.deb "$D/$name/root"
      ln -sf "$(find "$D/$name/root" -path "*bin/$name" | head -n1)" "$D/bin/$name"
      "$D/bin/$name" version >/dev/null || { say "$name does not run here"; exit 1; }
    done
    ;;
  down) : ;;
esac
