#!/usr/bin/env bash
# Chromium and its driver from Debian, for the tests of pages. Nothing is started.
source "$(dirname "$0")/lib.sh"
case ${1:-up} in
  up) need chromium chromium-driver fonts-dejavu-core ;;
  down) : ;;
esac
