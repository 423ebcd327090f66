#!/usr/bin/env bash
# Compares a training step without new methods with that of an earlier commit: `make bench-before`, or
#   benchmarks/before.sh build [COMMIT]   builds both benchmarks into benchmarks/.before
#   benchmarks/before.sh run [ROUNDS]     runs them in turns and prints the best of each in milliseconds a step
# It is BenchmarkStep of evaluator/model with one thread in float32, on 32 rows of 50 tokens: the rows of one length, so
# that neither pads.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
place=$root/benchmarks/.before

build() {
	rm -rf "$place" && mkdir -p "$place/then"
	git -C "$root" archive "${1:-748ce4b}" | tar -x -C "$place/then"
	mkdir "$place/now" && tar -c -C "$root" --exclude ./models --exclude ./benchmarks --exclude ./bin --exclude ./.git . |
		tar -x -C "$place/now"
	for tree in then now; do
		sed -i -E -e 's/^(\t+)lengths\[i\], labels\[i\] = [^,]*,/\1lengths[i], labels[i] = 50,/' \
			-e 's/randomBatch\(backbone, 1, 56,/randomBatch(backbone, 1, 50,/' \
			"$place/$tree/evaluator/model/bench_test.go"
		ln -s "$root/models" "$place/$tree/models"
		(cd "$place/$tree" && go test -c -o step.test ./evaluator/model)
	done
}

run() {
	for round in $(seq "${1:-3}"); do
		for tree in then now; do
			(cd "$place/$tree/evaluator/model" && ../../step.test -test.run '^$' -test.bench 'Step$' -test.benchtime 15x) |
				sed -n "s/^BenchmarkStep\/\([^ \t]*\)[^0-9]*[0-9]*[ \t]*\([0-9]*\) ns.op.*/$tree \1 \2/p"
		done
	done | sort | awk '{key = $2; ms = $3 / 1e6; k = $1 " " key
		if (!(k in best) || ms < best[k]) best[k] = ms
		names[key] = 1}
		END {for (n in names) printf "%-24s then %7.1f ms   now %7.1f ms\n", n, best["then " n], best["now " n]}' | sort
}

command=$1
shift
"$command" "$@"
