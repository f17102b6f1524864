"""Where the cache lies on the host of a plan: what `mlcube.directories.cache` says of this one, in shell."""

__all__ = ["FIND_CACHE"]

FIND_CACHE = """\
home=${HOME-$(eval printf %s "~$(id -un)")}
home=${home%/}
absolute() {
  case $1 in
    "~" | "~/"*) printf %s "$home${1#"~"}" ;;
    "~"*)
      user=${1%%/*}
      there=$(getent passwd "${user#"~"}" | cut -d: -f6)
      printf %s "${there:-$(pwd -P)/$user}${1#"$user"}" ;;
    /*) printf %s "$1" ;;
    *) printf %s "$(pwd -P)/$1" ;;
  esac
}
cache() {
  case ${CUBE_CACHE_DIR:+own}${XDG_CACHE_HOME-} in
    own*) absolute "$CUBE_CACHE_DIR" ;;
    /*) printf %s "$XDG_CACHE_HOME/mlcube" ;;
    *) printf %s "$home/.cache/mlcube" ;;
  esac
}
"""
"""Functions for a script: `cache` prints that directory, `absolute` a path with `~` and without."""
