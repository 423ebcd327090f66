"""Compare one whole trial of ours with the adapters library's: epochs with dev evaluations, start to score.

    make bench-trial

Ours runs in a warm worker: model, tokens and cache are there, as after the first trials of a search. Prints a
table and writes benchmarks/results/trial-DATE.json.
"""
import compare

PEERS = ["dynamic", "dynamic+autocast", "bucketed"]


def main():
    options = compare.parser(__doc__.partition("\n")[0])
    options.add_argument("--epochs", type=int, default=3, help="of a trial, each with a dev evaluation")
    args = options.parse_args()
    trial = {"epochs": args.epochs, "rungs": [(i + 1) / args.epochs for i in range(args.epochs)]}
    compare.compare("trial", args, [
        compare.ours(args, "ours", **trial),
        compare.ours(args, "ours, upper third", lowest=compare.upper_third(args), cache=compare.CACHE, **trial),
        *(compare.peer(args, "trial_peer.py", way, "--dev", args.dev, "--epochs", args.epochs) for way in PEERS),
    ], PEERS, "wall_s", higher_is_better=False)


if __name__ == "__main__":
    main()
