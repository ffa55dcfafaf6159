# shellcheck shell=bash
# Flags of the launch scripts, which source this file.

# Ends with one line on stderr and exit code 2.
fail() {
  echo "$(basename "$0"): $1" >&2
  exit 2
}

# Prints the comment at the head of the script, up to its first command.
usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
}

# Sets a variable for each flag given: '--compute-type X' sets compute_type. What
# stands behind -- is for `walt train` and comes in the array `flags`.
#
#   read_flags 'NAMES WITH A VALUE' 'NAMES WITHOUT' "$@"
read_flags() {
  # Names that no flag has: what is set must not be ours.
  local _with=" $1 " _without=" $2 " _name
  shift 2
  while [[ $# -gt 0 && "$1" != -- ]]; do
    [[ "$1" != --help ]] || { usage; exit 0; }
    _name="${1#--}"
    if [[ "$1" == --?* && "$_with" == *" $_name "* ]]; then
      [[ $# -ge 2 ]] || fail "$1 needs a value"
      printf -v "${_name//-/_}" '%s' "$2"
      shift 2
    elif [[ "$1" == --?* && "$_without" == *" $_name "* ]]; then
      printf -v "${_name//-/_}" 1
      shift
    else
      fail "unknown flag $1 (see --help)"
    fi
  done
  # shellcheck disable=SC2034 # The scripts read it.
  flags=("${@:2}")
}
