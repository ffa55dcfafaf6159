#!/usr/bin/env bash
# Trains on a GKE cluster of TPUs through XPK.
#
#   launch/xpk.sh --cluster CLUSTER --workload NAME --tpu-type v5p-128 \
#     --image IMAGE --workdir gs://BUCKET/RUN [--slices N] [--zone ZONE] \
#     [--project PROJECT] [--restarts N] [--dry-run] -- --config CONFIG [..]
#
# What stands behind -- goes to `walt train` in every pod; IMAGE holds the
# project in /app. XPK sets TPU_WORKER_HOSTNAMES, TPU_WORKER_ID and, for several
# slices, MEGASCALE_*, by which the hosts find each other. The workload is
# started again after a lost host (76) or a preemption (75).
set -euo pipefail

usage() {
  sed -n '2,13s/^# \{0,1\}//p' "$0"
}

fail() {
  echo "xpk.sh: $1" >&2
  exit 2
}

cluster='' workload='' tpu_type='' image='' workdir='' zone='' project=''
slices=1 restarts=100 dry_run=0
while [[ $# -gt 0 ]]; do
  case "$1" in
    --cluster | --workload | --tpu-type | --image | --workdir | --slices | \
      --zone | --project | --restarts)
      [[ $# -ge 2 ]] || fail "$1 needs a value"
      variable="${1#--}"
      printf -v "${variable//-/_}" '%s' "$2"
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
[[ -n "$cluster" ]] || fail 'give the cluster with --cluster'
[[ -n "$workload" ]] || fail 'give the run a name with --workload'
[[ -n "$tpu_type" ]] || fail 'give the slice with --tpu-type, such as v5p-128'
[[ -n "$image" ]] || fail 'give the container image with --image'
[[ "$workdir" == gs://* ]] || fail "give a bucket with --workdir gs://BUCKET/RUN, not '$workdir'"
[[ "$slices" =~ ^[1-9][0-9]*$ ]] || fail "--slices '$slices' is no number"
[[ "$restarts" =~ ^[0-9]+$ ]] || fail "--restarts '$restarts' is no number"
[[ $# -gt 0 ]] || fail 'give the flags of walt train behind --'

bucket="${workdir#gs://}"
flags=$(printf '%q ' "$@")
flags=${flags% }
remote="mkdir -p /mnt/walt && gcsfuse --implicit-dirs ${bucket%%/*} /mnt/walt && \
export JAX_COMPILATION_CACHE_DIR=/mnt/walt/walt_programs && \
cd /app && exec .venv/bin/walt train --workdir /mnt/walt/$(printf '%q' "${bucket#*/}") $flags"

command=(xpk workload create --cluster "$cluster" --workload "$workload"
  --tpu-type "$tpu_type" --num-slices "$slices" --docker-image "$image"
  --max-restarts "$restarts" --restart-on-exit-codes '75,76'
  --termination-grace-period-seconds 600 --command "$remote")
if [[ -n "$zone" ]]; then
  command+=(--zone "$zone")
fi
if [[ -n "$project" ]]; then
  command+=(--project "$project")
fi

if [[ $dry_run -eq 1 ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
command -v xpk > /dev/null || fail 'xpk is not installed: pip install xpk'
exec "${command[@]}"
