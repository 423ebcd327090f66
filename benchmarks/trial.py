"""Compare one whole trial of ours with the adapters library's: epochs with dev evaluations, start to score.

    make bench-trial

Ours runs in a warm worker: model, tokens and cache are there, as after the first trials of a search; fill_s is what
filling the cache took. The library's model is loaded and its rows are tokenised before the clock starts. Prints a table
and writes benchmarks/results/trial-DATE.json.
"""

import compare

PEERS = ["dynamic", "dynamic autocast", "sorted", "sorted autocast", "sorted bfloat16"]
UPPER = ["sorted", "sorted autocast", "sorted bfloat16"]


def main():
    options = compare.parser(__doc__.partition("\n")[0])
    options.add_argument("--epochs", type=int, default=3, help="of a trial, each with a dev evaluation")
    args = options.parse_args()
    upper = compare.upper_third(args.model)
    budget = {"epochs": args.epochs, "rungs": [(i + 1) / args.epochs for i in range(args.epochs)]}

    def given(_):
        return {"dev": args.dev, "epochs": args.epochs}

    compare.compare(
        "trial",
        args,
        [
            compare.ours(args, "ours", **budget),
            compare.ours(args, "ours, upper third", upper, **budget),
            compare.ours(args, "ours, upper third, cached", upper, compare.CACHE, **budget),
            *(compare.peer(args, "trial", way, options=given) for way in PEERS),
            *(compare.peer(args, "trial", way + ", upper third", upper, given) for way in UPPER),
        ],
        "wall_s",
        higher_is_better=False,
    )


if __name__ == "__main__":
    main()
