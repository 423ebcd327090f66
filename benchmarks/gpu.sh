#!/usr/bin/env bash
# Measure the worker on a GPU with the PyTorch that is installed there: correctness against the CPU, a training step, a
# trial, evaluation, several trials at once, the adapters library. Takes less than 10 minutes, writes JSON to stdout.
#
#   benchmarks/gpu.sh                   builds the worker against the PyTorch that python3 finds
#   benchmarks/gpu.sh --worker WORKER   uses one that was built against the same version elsewhere
#   benchmarks/gpu.sh --device cpu      tries the script itself where there is no GPU
#
# Other arguments are those of gpu.py: --model, --steps, …
set -euo pipefail
cd "$(dirname "$0")/.."

torch=$(python3 scripts/libtorch/find.py python)
torch=${torch%% *}
# A worker that was built elsewhere looks for its libraries where they were there.
export LD_LIBRARY_PATH="$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

case " $* " in
*" --worker "*) ;;
*)
	make bin/peftsearch-worker LIBTORCH="$torch" >&2
	set -- --worker bin/peftsearch-worker "$@"
	;;
esac
exec python3 benchmarks/gpu.py "$@"
