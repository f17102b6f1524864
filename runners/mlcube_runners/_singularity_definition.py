"""Looks at a definition file before the engine builds it: a cube is data, never code on the host.

Building runs `%setup` and `%pre` on the host, as the caller; it lets a shell expand the sources of `%files`, which `cp`
then copies through every link; and some kinds of `Bootstrap` run programs of the host. Whatever the engine could take
for one of these is refused: what looks like a section, where a template could become one, every unusual source.
"""

from mlcube.plan import Command, Step, WriteFile

__all__ = ["look_at"]

_READ = r"""
function refuse(why) { printf "refuse\t%d\t%s\n", NR, why; exit }
function trimmed(text) { gsub(/^[ \t]+|[ \t]+$/, "", text); return text }
function source(word) {
  if (substr(word, 1, 1) == "/") refuse("`%" section "` copies `" word "`, which is not below `" place "`")
  if (("/" word "/") ~ /\/\.\.\//) refuse("`%" section "` copies `" word "`: `..` could leave `" place "`")
  if (substr(word, 1, 1) == "-") refuse("`%" section "` copies `" word "`, which `cp` would take for an option")
  if (("/" word) ~ /\/\.[^\/]*[*?]/) refuse("`%" section "` copies `" word "`, which could mean `..`")
  printf "source\t%d\t%s\n", NR, word
}
BEGIN {
  split("arguments help labels environment post runscript startscript test files " \
    "appinstall applabels appfiles appenv apptest apphelp apprun appstart", words, " ")
  for (word in words) known[words[word]]
  split("docker docker-archive docker-daemon oci oci-archive oras library shub localimage scratch", words, " ")
  for (word in words) agents[words[word]]
  space = "\302[\205\240]|\341\232\200|\342\200[\200-\257]|\342\201\237|\343\200\200" # what is no ASCII
  header = 1
}
{
  sub(/\r$/, "")
  text = $0; sub(/^[^!-~]+/, "", text)
  if (at = index($0, "{{")) {
    before = tolower(substr($0, 1, at - 1)); sub(/^[^!-~]+/, "", before)
    if (before == "" || substr(before, 1, 1) == "%" || index("bootstrap:", before) == 1 ||
        (header && before !~ /[:#]/)) refuse("what begins with `{{` could become a section")
  }
  if (tolower($0) ~ /^bootstrap:/) { header = 1; files = 0; agent = "" }
  if (substr(text, 1, 1) == "%") {
    section = tolower(text); sub(/^%+/, "", section); sub(/[^!-~].*/, "", section)
    if (section == "setup" || section == "pre") refuse("`%" section "` runs commands on the host, outside the image")
    if (!(section in known)) refuse("`%" section "` is no section of a definition")
    header = 0; files = section ~ /files$/
    stage = text ~ /^%+[Ff][Ii][Ll][Ee][Ss] from [A-Za-z0-9_.-]+ *$/
    next
  }
}
header && substr(text, 1, 1) != "#" && (colon = index($0, ":")) {
  key = tolower(trimmed(substr($0, 1, colon - 1))); sub(/^[^!-~]+/, "", key); sub(/[^!-~]+$/, "", key)
  value = substr($0, colon + 1); sub(/#.*/, "", value); value = trimmed(value)
  if (key == "bootstrap") {
    agent = tolower(value)
    if (tolower($0) !~ /^bootstrap:/) refuse("`Bootstrap:` does not begin its line")
    if (!(agent in agents)) refuse("`Bootstrap: " value "` runs programs of the host")
  }
  if (key == "from" && agent == "localimage") {
    if (value ~ /\\$/ || index(value, "{{") || value ~ space) refuse("it is not plain what `From:` names")
    printf "from\t%d\t%s\n", NR, value
  }
}
files {
  line = trimmed($0)
  if (line == "" || substr(line, 1, 1) == "#") next
  if (line ~ /[\001-\010\013-\037\177]/ || line ~ ("^(" space ")")) refuse("it is not plain what `%" section "` copies")
  if (section == "files" && match(line, /^"[^"]+"/)) word = substr(line, 2, RLENGTH - 2)
  else if (match(line, /^[^ \t"']+/)) word = substr(line, 1, RLENGTH)
  else refuse("it is not plain what `%" section "` copies")
  # A shell of the host expands it, and what that could take for a command, a variable or braces is refused.
  if (word !~ /^[A-Za-z0-9._\/+@=,:*? \200-\377-]+$/) refuse("`" word "` is more than a name to a shell")
  if (stage) next
  source(word)
  if (split(word, words, " ") > 1 || words[1] != word) for (number in words) source(words[number])
}
"""

_LOOK = (
    r"""rm -f -- "$0"
definition=$1 name=$2 root=$(pwd -P)
refuse() { printf '%s\n' "line $1 of $name: $2" >&2; exit 77; }
inside() { # path
  case $(readlink -f -- "$1")/ in "$root"/*) ;; *) return 1 ;; esac
}
tr -d '\000' <"$definition" | cmp -s - "$definition" || refuse 1 'it is no text'
found=$(place=$root LC_ALL=C awk 'BEGIN { place = ENVIRON["place"] }"""
    + _READ.replace("'", "'\\''")
    + r"""' "$definition")
tab=$(printf '\t')
while IFS=$tab read -r what line word; do
  case $what in
    refuse) refuse "$line" "$word" ;;
    from)
      case $word in /*) ;; *) word=./$word ;; esac
      [ ! -d "$word" ] || inside "$word" || refuse "$line" "\`From:\` is a directory that is not below \`$root\`" ;;
    source)
      saved=$IFS IFS=
      for path in ./$word; do
        case $path in ./-* | *[%\\]*) refuse "$line" "\`$path\` is more than a name to a shell" ;; esac
        [ -e "$path" ] || continue
        inside "$path" || refuse "$line" "\`$path\` is a link that leads out of \`$root\`"
        [ -n "$(find "$(readlink -f -- "$path")" -type l)" ] || continue
        # What links lead to is copied, and so on from there: so none that it could meet may lead out.
        find "$root" -type l -exec sh -c '
          root=$1; shift
          for link; do
            [ -e "$link" ] || continue
            case $(readlink -f -- "$link")/ in "$root"/*) ;; *) printf "%s\n" "$link" ;; esac
          done' sh "$root" {} + >"$0"
        read -r away <"$0" || away=
        rm -f -- "$0"
        [ -z "$away" ] || refuse "$line" "\`$path\` has links, and \`$away\` leads out of \`$root\`"
      done
      IFS=$saved ;;
  esac
done <<FOUND
$found
FOUND
"""
)
"""DEFINITION NAME: in the directory out of which nothing may be read. Removes itself; where it lay, it may write."""


def look_at(definition: str, name: str, *, directory: str, script: str) -> tuple[Step, ...]:
    """Fails, with the line, when building the definition would reach out of the image and of `directory`.

    `name` is what the user knows it by; `script` is where to write the program that looks, which removes itself.
    """
    hint = (
        "a cube's definition may not reach out of its image and its directory: change that line; "
        "or build a SIF file of it yourself, if you trust it, and name that: `singularity: {image: FILE.sif}`"
    )
    look = Command(argv=("sh", "-e", script, definition, name), directory=directory, quiet=True, hint=hint)
    return WriteFile(path=script, text=_LOOK), look
