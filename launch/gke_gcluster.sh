#!/usr/bin/env bash
# Trains on a GKE cluster through Cluster Toolkit, which makes the JobSet.
#
#   launch/gke_gcluster.sh --name RUN --image IMAGE --cluster CLUSTER \
#     --location LOCATION --compute-type v5p-128 --workdir gs://BUCKET/RUN \
#     [--topology 4x4x4] [--slices N] [--project PROJECT] [--restarts N] \
#     [--service-account ACCOUNT] [--dry-run] -- --config CONFIG [..]
#
# What stands behind -- goes to `walt train` in every pod; IMAGE is what the
# Dockerfile builds with ACCELERATOR=tpu. Hosts find each other by what GKE sets:
# TPU_WORKER_HOSTNAMES, TPU_WORKER_ID and, for several slices, MEGASCALE_*.
set -euo pipefail

# shellcheck source=launch/flags.sh
. "$(dirname "$0")/flags.sh"

# shellcheck disable=SC2034 # The last loop reads three of them by name.
name='' image='' cluster='' location='' compute_type='' workdir='' topology=''
# shellcheck disable=SC2034
project='' service_account='' slices=1 restarts=100 dry_run=0
read_flags "name image cluster location compute-type workdir topology slices \
  project restarts service-account" dry-run "$@"
[[ "$name" =~ ^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$ ]] ||
  fail "--name '$name' is no name of a workload (a-z, 0-9, -; 32 at most)"
[[ -n "$image" ]] || fail 'give the container image with --image'
[[ -n "$cluster" ]] || fail 'give the cluster with --cluster'
[[ -n "$location" ]] || fail 'give its zone or region with --location'
[[ -n "$compute_type" ]] ||
  fail 'give the slice with --compute-type, such as v5p-128'
[[ "$workdir" =~ ^gs://[a-z0-9][-_.a-z0-9]+/.+$ ]] ||
  fail "give a bucket with --workdir gs://BUCKET/RUN, not '$workdir'"
[[ "$slices" =~ ^[1-9][0-9]*$ ]] || fail "--slices '$slices' is no number"
[[ "$restarts" =~ ^[0-9]+$ ]] || fail "--restarts '$restarts' is no number"
[[ ${#flags[@]} -gt 0 ]] || fail 'give the flags of walt train behind --'

bucket="${workdir#gs://}"
# Ours first: the last --restarts counts.
words=$(printf '%q ' env "JAX_COMPILATION_CACHE_DIR=gs://${bucket%%/*}/walt_programs" \
  walt train --restarts 5 --workdir "$workdir" "${flags[@]}")

command=(gcluster job submit --name "$name" --cluster "$cluster"
  --location "$location" --image "$image" --compute-type "$compute_type"
  --num-slices "$slices" --restarts "$restarts"
  --restart-on-exit-codes '75,76' --grace-period 600s)
for flag in project topology service_account; do
  if [[ -n "${!flag}" ]]; then
    command+=("--${flag//_/-}" "${!flag}")
  fi
done
command+=(--command "${words% }")

if [[ $dry_run -eq 1 ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
command -v gcluster > /dev/null ||
  fail 'gcluster is not installed; it is part of Cluster Toolkit'
exec "${command[@]}"
