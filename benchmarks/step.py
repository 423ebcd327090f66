"""Compare one training step of ours with the adapters library's: throughput and peak memory.

    make bench-step
    benchmarks/.venv/bin/python benchmarks/step.py --train FILE --dev FILE --text COL --text-pair COL --label COL --outputs 2

Prints a table and writes benchmarks/results/step-DATE.json.
"""
import compare

PEERS = ["autopeft", "dynamic", "dynamic+autocast", "bucketed"]


def main():
    options = compare.parser(__doc__.partition("\n")[0])
    options.add_argument("--steps", type=int, default=60, help="steps to time")
    args = options.parse_args()
    upper = compare.upper_third(args)
    compare.compare("step", args, [
        compare.ours(args, "ours", steps=args.steps),
        compare.ours(args, "ours, upper third", lowest=upper, steps=args.steps),
        compare.ours(args, "ours, upper third cached", lowest=upper, cache=compare.CACHE, steps=args.steps),
        *(compare.peer(args, "step_peer.py", way, "--warm-up", args.warm_up, "--steps", args.steps) for way in PEERS),
    ], PEERS, "samples_per_s", higher_is_better=True)


if __name__ == "__main__":
    main()
