#!/usr/bin/env bash
# Trains on a Cloud TPU slice through its TPU VMs: asks for the slice by a
# queued resource, installs Python and the project there, trains, and does all
# of it again when the slice is preempted.
#
#   make wheel
#   launch/tpu_pod.sh --name RUN --zone ZONE --accelerator-type v5p-128 \
#     --workdir gs://BUCKET/RUN [--spot] [--project PROJECT] [--wheel FILE] \
#     [--runtime-version VERSION] [--restarts N] [--delete] [--dry-run] \
#     -- --config CONFIG [..]
#
# What stands behind -- goes to `walt train` on every host. Nothing is installed
# as root: uv puts Python and the project under ~/walt of the TPU VMs. Training
# does not hang on this terminal: where the connection is lost, the script comes
# back to the run under way. An existing slice of that name is used. --delete
# gives it back when training is done. One slice; for several see gke_jobset.sh.
set -euo pipefail

# shellcheck source=launch/flags.sh
. "$(dirname "$0")/flags.sh"

say() {
  echo "tpu_pod.sh: $1" >&2
}

name='' zone='' project='' workdir='' wheel='' accelerator_type=''
runtime_version='' restarts=100 spot=0 delete=0 dry_run=0
read_flags "name zone project workdir wheel accelerator-type runtime-version \
  restarts" 'spot delete dry-run' "$@"
[[ "$name" =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
  fail "--name '$name' is no name of a slice (a-z, 0-9, -)"
[[ -n "$zone" ]] || fail 'give its zone with --zone'
[[ "$workdir" =~ ^gs://[a-z0-9][-_.a-z0-9]+/.+$ ]] ||
  fail "give a bucket with --workdir gs://BUCKET/RUN, not '$workdir'"
[[ "$restarts" =~ ^[0-9]+$ ]] || fail "--restarts '$restarts' is no number"
[[ ${#flags[@]} -gt 0 ]] || fail 'give the flags of walt train behind --'
if [[ -z "$runtime_version" ]]; then
  case "$accelerator_type" in
    v5litepod-* | v5e-*) runtime_version=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime_version=v2-alpha-tpuv5 ;;
    v6e-*) runtime_version=v2-alpha-tpuv6e ;;
    v4-*) runtime_version=tpu-ubuntu2204-base ;;
    *) fail "--accelerator-type '$accelerator_type' is none of v4-N, v5litepod-N, v5p-N, v6e-N; give --runtime-version too" ;;
  esac
fi
[[ -n "$accelerator_type" ]] || fail 'give the slice with --accelerator-type'
if [[ -z "$wheel" ]]; then
  # The newest one; names of wheels hold no blanks.
  # shellcheck disable=SC2012
  wheel=$(ls -t "$(dirname "$0")"/../dist/walt_jax-*.whl 2> /dev/null | head -1 || true)
fi
[[ -f "$wheel" || $dry_run -eq 1 ]] ||
  fail "no wheel '$wheel'; make one with: make wheel"
wheel_name=$(basename "${wheel:-walt_jax.whl}")

# Seconds between two looks, and how often a look is taken: about a day.
poll="${WALT_POLL_SECONDS:-30}"
looks="${WALT_LOOKS:-2880}"
bucket="${workdir#gs://}"
bucket="gs://${bucket%%/*}"

where=(--zone "$zone" --quiet)
if [[ -n "$project" ]]; then
  where+=(--project "$project")
fi
create=(gcloud compute tpus queued-resources create "$name" --node-id "$name"
  --accelerator-type "$accelerator_type" --runtime-version "$runtime_version"
  "${where[@]}")
if [[ $spot -eq 1 ]]; then
  create+=(--spot)
fi

install="set -e
mkdir -p walt && cd walt
export PATH=\"\$HOME/.local/bin:\$PATH\"
command -v uv > /dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
uv venv --quiet --allow-existing --python 3.12 venv
uv pip install --quiet --python venv/bin/python \
  \"../${wheel_name}[tpu,gcs,tensorboard,text]\""

# The last --restarts counts: what is given behind -- goes before ours.
words=$(printf '%q ' venv/bin/walt train --restarts 5 --workdir "$workdir" \
  "${flags[@]}")

# What a host runs: starts the training, unless it is that of this id already,
# and shows its log until it has ended. `code` then holds the id and exit code;
# a run that was killed without leaving one counts as lost.
remote() {
  cat << END
cd walt
if [ "\$(cat id 2> /dev/null)" != $1 ]; then
rm -f code
cat > run.sh << 'WALT_END'
export WALT_HOSTS=tpu JAX_COMPILATION_CACHE_DIR=$bucket/walt_programs
code=0
${words% } || code=\$?
echo $1 \$code > code
WALT_END
setsid nohup bash run.sh > log 2>&1 < /dev/null &
echo \$! > pid
echo $1 > id
fi
tail -n 100 -f --pid="\$(cat pid)" log
[ -f code ] || echo $1 76 > code
END
}

ssh_all() {
  gcloud compute tpus tpu-vm ssh "$name" --worker=all --command "$1" "${where[@]}"
}

if [[ $dry_run -eq 1 ]]; then
  for command in create install train; do
    case $command in
      create) words_of=("${create[@]}") ;;
      install) words_of=(gcloud compute tpus tpu-vm ssh "$name" --worker=all
        "${where[@]}" --command "$install") ;;
      train) words_of=(gcloud compute tpus tpu-vm ssh "$name" --worker=all
        "${where[@]}" --command "$(remote run-0)") ;;
    esac
    printf '%q ' "${words_of[@]}"
    echo
  done
  exit 0
fi
command -v gcloud > /dev/null || fail 'gcloud is not installed'

state() {
  gcloud compute tpus queued-resources describe "$name" \
    --format 'value(state.state)' "${where[@]}" 2> /dev/null || echo NONE
}

# Waits until the slice is there; asks for it where it is not.
get_slice() {
  local look found last='' asked=0
  for ((look = 0; look < looks; look++)); do
    found=$(state)
    [[ "$found" == "$last" ]] || say "slice $name: $found"
    last="$found"
    case "$found" in
      ACTIVE) return 0 ;;
      NONE)
        [[ $asked -lt 3 ]] || fail "no slice $name after three requests"
        asked=$((asked + 1))
        "${create[@]}" || say 'the request failed'
        ;;
      FAILED | SUSPENDED)
        gcloud compute tpus queued-resources delete "$name" --force \
          "${where[@]}" || say 'the old request cannot be deleted'
        ;;
    esac
    sleep "$poll"
  done
  fail "the slice $name did not come; its request stays in the queue"
}

install_all() {
  gcloud compute tpus tpu-vm scp "$wheel" "$name:$wheel_name" --worker=all \
    "${where[@]}" && ssh_all "$install"
}

# The exit code of the run with this id; nothing while it runs.
code_of() {
  gcloud compute tpus tpu-vm ssh "$name" --worker=0 \
    --command 'cat walt/code' "${where[@]}" 2> /dev/null |
    awk -v id="$1" '$1 == id { print $2 }' || true
}

for ((try = 0; try <= restarts; try++)); do
  get_slice
  code=lost
  if install_all; then
    id="run-$try-$(date +%s)"
    for ((look = 0; look < looks; look++)); do
      ssh_all "$(remote "$id")" || say 'the connection has ended'
      found=$(code_of "$id")
      if [[ "$found" =~ ^[0-9]+$ ]]; then
        code="$found"
        break
      fi
      [[ "$(state)" == ACTIVE ]] || break
      sleep "$poll"
    done
  fi
  case $code in
    75 | 76 | lost) say "exit code $code, starting again" ;;
    *) break ;;
  esac
  sleep "$poll"
done
if [[ $code == 0 && $delete -eq 1 ]]; then
  gcloud compute tpus queued-resources delete "$name" --force "${where[@]}"
else
  say "the slice stays; give it back with: gcloud compute tpus queued-resources delete $name --force --zone $zone"
fi
[[ "$code" != lost ]] || exit 76
exit "$code"
