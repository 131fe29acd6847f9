#!/usr/bin/env bash
# Proves and times every kernel on the NVIDIA GPU that is here, without a network:
#
#     bash bench/gpu_check.sh [--dry-run]
#
# builds the kernels for that GPU in a folder that is thrown away, runs the tests marked gpu, runs
# every kernel under compute-sanitizer, measures every op, and prints one table. A stage that fails
# does not stop the others; the last line says which did. Logs and results are in ${OUT}, by default
# bench/results/gpu; all of it ends within ${TOTAL} seconds, by default 570. To have the figures in
# the README, copy the folder of the machine in it to bench/results, and run make results.
#
# It needs Python with torch, Triton and pytest, setuptools, pybind11, ninja, a C++ compiler and
# nvcc. ${PYTHON} names the interpreter. --dry-run goes the same ways on the CPU: the extension that
# is there, the tests as far as they run, Triton's interpreter, tiny sizes. ${GPU_CHECK_FAIL} names
# stages that are made to fail, for the test of this script.
set -u

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly ROOT
readonly PYTHON="${PYTHON:-python3}"
readonly TOTAL="${TOTAL:-570}"
# What the suite is left at least, whatever the stages before it take.
readonly SUITE=120
DRY_RUN=0
FAILED=()
STAGES=()

fail() {
  echo "$1" >&2
  exit 2
}

python_says() { "$PYTHON" -c "$1" 2>/dev/null; }

# Copies the sources to a folder of this run. The tests and benches run there, too: an installed
# pydisent cannot come before the one that was built.
prepare() {
  WORK="$(mktemp -d)" || fail "no folder for the build could be made"
  trap 'rm -rf "$WORK"' EXIT
  mkdir "$WORK/bench" || fail "$WORK cannot be written to"
  (cd "$ROOT" && cp -r pydisent csrc tests setup.py README.md LICENSE "$WORK" &&
    cp bench/*.py "$WORK/bench" && cp -r triton_kernels "$WORK/pydisent/") ||
    fail "the sources could not be copied"
  ln -s pydisent/triton_kernels "$WORK/triton_kernels"
  ((DRY_RUN)) || rm -f "$WORK"/pydisent/_C.*
  # Triton's kernels are compiled once for all stages.
  export TRITON_CACHE_DIR="$WORK/triton" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
  export PYTHONPATH="$WORK${PYTHONPATH:+:$PYTHONPATH}"
}

# stage NAME SECONDS COMMAND...: runs it with a limit and a log, and notes how it went.
stage() {
  local name="$1" limit="$2" log="$OUT/$1.log" code begun=$SECONDS
  shift 2
  local rest=$((TOTAL - SECONDS - (SUITE + 10)))
  [[ $name == suite ]] && rest=$((TOTAL - SECONDS))
  ((limit > rest)) && limit=$((rest > 1 ? rest : 1))
  [[ " ${GPU_CHECK_FAIL:-} " == *" $name "* ]] && set -- false
  (cd "$WORK" && exec timeout --kill-after=10 "$limit" "$@") >"$log" 2>&1
  code=$?
  local state=passed
  if ((code == 124 || code == 137)); then
    state="stopped after $limit s"
  elif ((code)); then
    state="failed with status $code"
  fi
  ((code)) && FAILED+=("$name")
  STAGES+=("$(printf '%-10s %4d s  %s (%s)' "$name" $((SECONDS - begun)) "$state" "$log")")
  echo "${STAGES[-1]}"
  if ((code)); then tail -n 8 "$log"; fi
}

skip() {
  STAGES+=("$(printf '%-10s         left out: %s' "$1" "$2")")
  echo "${STAGES[-1]}"
}

build() {
  if ((DRY_RUN)); then
    stage build 10 ls -l pydisent
  else
    build_for_device
  fi
  # Only now: an old setuptools cannot read it, and building does not need it.
  cp "$ROOT/pyproject.toml" "$WORK"
}

build_for_device() {
  local arch check jobs
  arch="$(python_says 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')"
  [[ $arch == 9.0 ]] && arch=9.0a
  jobs="$(nproc)"
  check='import pydisent
report = pydisent.backends()
print(report)
assert report["cuda"]["active"] and report["triton"]["active"]'
  # shellcheck disable=SC2016  # the shell that is started expands them
  PYDISENT_CUDA=1 PYDISENT_STRICT=1 TORCH_CUDA_ARCH_LIST="$arch" MAX_JOBS="$jobs" \
    stage build 200 bash -c '"$0" setup.py build_ext --inplace && "$0" -c "$1"' "$PYTHON" "$check"
}

tests() {
  local files options=()
  mapfile -t files < <(cd "$WORK" && grep -rl --include='test_*.py' 'mark\.gpu' tests)
  if ((!DRY_RUN)) && python_says 'import xdist'; then options=(-n 8); fi
  stage tests 180 "$PYTHON" -m pytest -p no:cacheprovider -m gpu "${options[@]}" "${files[@]}"
}

sanitizers() {
  local tool
  if ((DRY_RUN)); then
    TRITON_INTERPRET=1 stage memcheck 90 \
      "$PYTHON" bench/_sanitized.py --device cpu --samples 1 --families spectral latent
    skip racecheck "there is no compute-sanitizer in a dry run"
    return
  fi
  for tool in memcheck racecheck; do
    if ! command -v compute-sanitizer >/dev/null; then
      skip "$tool" "compute-sanitizer is not installed"
      continue
    fi
    # A cached block would hide a read beyond a tensor.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 stage "$tool" 90 \
      compute-sanitizer --tool "$tool" --error-exitcode 9 "$PYTHON" bench/_sanitized.py
    excuse "$tool"
  done
}

# Some virtual machines let no tool watch their device: that says nothing of the kernels.
excuse() {
  if [[ ${FAILED[*]: -1} == "$1" ]] && grep -q 'Device not supported' "$OUT/$1.log"; then
    unset 'FAILED[-1]' 'STAGES[-1]'
    skip "$1" "compute-sanitizer does not support this device"
  fi
}

suite() {
  local limit=$((TOTAL - SECONDS - 45)) options=()
  ((limit > 20)) || limit=20
  if ((DRY_RUN)); then
    options=(--device cpu --size tiny --seconds 0.001 --backend eager)
    options+=(--ops gaussian_kl activation_tangent_)
  fi
  stage suite "$TOTAL" "$PYTHON" bench/run.py --suite gpu --limit "$limit" --results "$OUT" \
    "${options[@]}"
}

# The table is the end of the suite's log.
summary() {
  echo
  printf '%s\n' "${STAGES[@]}"
  echo
  grep -E '^(ceilings|alignment penalty)' "$OUT/suite.log"
  sed -n '/^op  /,$p' "$OUT/suite.log"
  if ((${#FAILED[@]})); then
    echo "FAILED: ${FAILED[*]}"
  else
    echo "All stages passed."
  fi
}

main() {
  [[ ${1:-} == --dry-run ]] && DRY_RUN=1
  [[ $# -eq $DRY_RUN ]] || fail "usage: bash bench/gpu_check.sh [--dry-run]"
  if ((DRY_RUN)); then
    OUT="${OUT:-$(mktemp -d)}"
    export CUDA_VISIBLE_DEVICES="" # also where there is a GPU
  elif ! python_says 'import torch; assert torch.cuda.is_available()'; then
    fail "$PYTHON has no torch that sees a CUDA device; PYTHON can name another"
  fi
  OUT="${OUT:-$ROOT/bench/results/gpu}"
  mkdir -p "$OUT" || fail "$OUT cannot be written to"
  OUT="$(cd "$OUT" && pwd)"
  prepare
  build
  tests
  sanitizers
  suite
  summary | tee "$OUT/summary.txt"
  ((${#FAILED[@]} == 0))
}

main "$@"
