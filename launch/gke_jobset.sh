#!/usr/bin/env bash
# Trains on a slice of a GKE cluster through a JobSet (gke_jobset.yaml).
#
#   launch/gke_jobset.sh --name RUN --image IMAGE --bucket BUCKET \
#     [--hosts 16] [--topology 4x4x4] [--accelerator tpu-v5p-slice] \
#     [--chips 4] [--slices 1] [--dry-run] -- --config CONFIG [..]
#
# What stands behind -- goes to `walt train` in every pod; the work directory is
# gs://BUCKET/RUN. IMAGE is what the Dockerfile builds with ACCELERATOR=tpu.
# --hosts are those of one slice, --chips those of one host. --dry-run prints
# the manifest.
set -euo pipefail

# shellcheck source=launch/flags.sh
. "$(dirname "$0")/flags.sh"

name='' image='' bucket='' hosts=16 topology=4x4x4 accelerator=tpu-v5p-slice
chips=4 slices=1
dry_run=0
read_flags 'name image bucket hosts topology accelerator chips slices' \
  dry-run "$@"
[[ "$name" =~ ^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$ ]] ||
  fail "--name '$name' is no name of a JobSet (a-z, 0-9, -; 32 at most)"
[[ -n "$image" ]] || fail 'give the container image with --image'
[[ "$bucket" =~ ^[a-z0-9][-_.a-z0-9]+$ ]] ||
  fail "--bucket '$bucket' is no name of a bucket (without gs://)"
[[ "$hosts" =~ ^[1-9][0-9]*$ ]] || fail "--hosts '$hosts' is no number"
[[ "$chips" =~ ^[1-9]$ ]] || fail "--chips '$chips' is no number"
[[ "$slices" =~ ^[1-9][0-9]*$ ]] || fail "--slices '$slices' is no number"
[[ "$topology" =~ ^[0-9]+(x[0-9]+)+$ ]] || fail "--topology '$topology'?"
[[ ${#flags[@]} -gt 0 ]] || fail 'give the flags of walt train behind --'

# A YAML list of strings; a quote inside a single-quoted string is doubled.
# Ours come first: the last --restarts counts.
arguments="['--restarts', '5', '--workdir', 'gs://$bucket/$name'"
for one in "${flags[@]}"; do
  arguments+=", '${one//\'/\'\'}'"
done
arguments+=']'

manifest=$(< "$(dirname "$0")/gke_jobset.yaml")
if [[ $slices -gt 1 ]]; then
  # The hosts of several slices find each other by what GKE sets.
  manifest=$(sed '/BEGIN one slice/,/END one slice/d' <<< "$manifest")
fi
manifest=${manifest//WALT_NAME/"$name"}
manifest=${manifest//WALT_IMAGE/"$image"}
manifest=${manifest//WALT_BUCKET/"$bucket"}
manifest=${manifest//WALT_HOST_COUNT/"$hosts"}
manifest=${manifest//WALT_CHIPS/"$chips"}
manifest=${manifest//WALT_SLICES/"$slices"}
manifest=${manifest//WALT_TOPOLOGY/"$topology"}
manifest=${manifest//WALT_ACCELERATOR/"$accelerator"}
# Last: what the user wrote may look like a name of ours.
manifest=${manifest//WALT_ARGS/"$arguments"}

if [[ $dry_run -eq 1 ]]; then
  printf '%s\n' "$manifest"
  exit 0
fi
command -v kubectl > /dev/null || fail 'kubectl is not installed'
kubectl get secret "$name-token" > /dev/null 2>&1 ||
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' |
  kubectl create secret generic "$name-token" --from-file=token=/dev/stdin
printf '%s\n' "$manifest" | kubectl apply -f -
