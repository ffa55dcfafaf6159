#!/usr/bin/env bash
# Trains on every host of a Cloud TPU slice through its TPU VMs.
#
#   launch/tpu_pod.sh --name SLICE --zone ZONE --workdir gs://BUCKET/RUN \
#     [--project PROJECT] [--repo DIR] [--dry-run] -- --config CONFIG [..]
#
# What stands behind -- goes to `walt train` on every host. The hosts find each
# other through the metadata server (WALT_HOSTS=tpu). A host that is lost, or a
# preemption notice, ends all hosts with exit code 76 or 75: the run is then
# started again, at most --restarts times, and resumes from its checkpoint.
set -euo pipefail

usage() {
  sed -n '2,12s/^# \{0,1\}//p' "$0"
}

fail() {
  echo "tpu_pod.sh: $1" >&2
  exit 2
}

name='' zone='' project='' workdir='' repo='walt_jax' restarts=100 dry_run=0
while [[ $# -gt 0 ]]; do
  case "$1" in
    --name | --zone | --project | --workdir | --repo | --restarts)
      [[ $# -ge 2 ]] || fail "$1 needs a value"
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    --dry-run)
      dry_run=1
      shift
      ;;
    --help)
      usage
      exit 0
      ;;
    --)
      shift
      break
      ;;
    *) fail "unknown flag $1 (see --help)" ;;
  esac
done
[[ -n "$name" ]] || fail 'give the slice with --name'
[[ -n "$zone" ]] || fail 'give its zone with --zone'
[[ "$workdir" == gs://* ]] || fail "give a bucket with --workdir gs://BUCKET/RUN, not '$workdir'"
[[ "$restarts" =~ ^[0-9]+$ ]] || fail "--restarts '$restarts' is no number"
[[ $# -gt 0 ]] || fail 'give the flags of walt train behind --'

bucket="${workdir#gs://}"
mount="/mnt/walt"
flags=$(printf '%q ' "$@")
flags=${flags% }
# gcsfuse gives every host the same files under $mount.
remote="set -e
export WALT_HOSTS=tpu
export JAX_COMPILATION_CACHE_DIR=$mount/walt_programs
mkdir -p $mount && (mountpoint -q $mount || gcsfuse --implicit-dirs ${bucket%%/*} $mount)
cd $(printf '%q' "$repo")
exec .venv/bin/walt train --workdir $mount/$(printf '%q' "${bucket#*/}") $flags"

command=(gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all
  --command "$remote")
if [[ -n "$project" ]]; then
  command+=(--project "$project")
fi

if [[ $dry_run -eq 1 ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
command -v gcloud > /dev/null || fail 'gcloud is not installed'
for ((try = 0; try <= restarts; try++)); do
  code=0
  "${command[@]}" || code=$?
  case $code in
    75 | 76) echo "tpu_pod.sh: exit code $code, starting again" >&2 ;;
    *) exit "$code" ;;
  esac
done
exit "$code"
