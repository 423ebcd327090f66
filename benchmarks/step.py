"""Compare one training step of ours with the adapters library's: tokens per second, memory, share of the matrix rate.

    make bench-step
    python benchmarks/step.py --train FILE --dev FILE --text COL --text-pair COL --label COL --outputs 2

Each repetition draws its batches at random, once, and every way trains them (sorted ways in another order). Prints a
table and writes benchmarks/results/step-DATE.json.
"""

import csv
import json
import pathlib
import random
import tempfile

import compare
import plan

PEERS = [
    "autopeft",
    "dynamic",
    "dynamic autocast",
    "sorted",
    "sorted autocast",
    "sorted bfloat16",
    "sorted bfloat16 compiled",
]
UPPER = ["sorted", "sorted autocast", "sorted bfloat16", "sorted bfloat16 compiled"]


def matrix_rate(args, precision):
    """FLOP/s of the products of this model's layers with their inputs and the gradients of their outputs."""
    c = compare.config(args.model)
    return (
        1e9
        * compare.answer(
            [args.worker, "matmul"],
            json.dumps(
                {
                    "hidden": c["hidden_size"],
                    "ffn": c["intermediate_size"],
                    "tokens": 1600,
                    "device": "cpu",
                    "precision": precision,
                    "threads": args.threads,
                    "repetitions": 40,
                }
            ),
        )["gflops"]
    )


def flop_per_token(args, lowest, cached, length):
    """FLOP of the products of a step for a token of a row of so many tokens, as ours has to make them.

    Frozen matrices are used forward, and in the layers with modules backward too; what lies below is not computed if
    it is cached. The last layer's queries, attention output and feed-forward part are for one token.
    """
    c = compare.config(args.model)
    d, f, layers = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    total = 0
    for i in range(layers):
        reads = 1 / length if i == layers - 1 else 1  # of a token
        frozen = 2 * (2 * d * d + reads * (2 * d * d + 2 * d * f)) + 4 * reads * d * (
            length + plan.PREFIX_LENGTH * (i >= lowest)
        )
        modules = 2 * (2 * plan.LORA_RANK * 2 * d * (1 + reads) / 2 + reads * 2 * d * plan.SERIAL_WIDTH)
        attention = 4 * reads * d * (length + plan.PREFIX_LENGTH)
        if i < lowest:
            total += 0 if cached else frozen
            continue
        backward = frozen + attention  # of which the attention has four products for two
        if i == lowest:
            backward -= 2 * (2 + reads) * d * d  # nothing below queries, keys and values
        total += frozen + backward + 3 * modules
    return total


def main():
    options = compare.parser(__doc__.partition("\n")[0])
    options.add_argument("--steps", type=int, default=60, help="steps to time")
    options.add_argument("--warm-up", type=int, default=5, help="steps before the clock starts")
    args = options.parse_args()
    upper = compare.upper_third(args.model)
    with open(args.train, encoding="utf-8-sig", newline="") as f:
        rows = sum(1 for _ in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    with tempfile.TemporaryDirectory() as folder:

        def batches(seed):
            """The file of a repetition's batches, and the batches."""
            path, rng = pathlib.Path(folder) / f"batches-{seed}.json", random.Random(seed)
            order = [
                row
                for _ in range(1 + (args.steps + args.warm_up) * args.batch // rows)
                for row in rng.sample(range(rows), rows)
            ]
            drawn = [order[i * args.batch : (i + 1) * args.batch] for i in range(args.steps + args.warm_up)]
            path.write_text(json.dumps(drawn))
            return path, drawn

        def measure(seed):
            return {"warm_up": args.warm_up, "batches": batches(seed)[1]}

        def given(seed):
            return {"warm_up": args.warm_up, "batches": batches(seed)[0]}

        ours = {"ours": (0, 0), "ours, upper third": (upper, 0), "ours, upper third, cached": (upper, compare.CACHE)}

        def shares(medians):
            """Of each of our ways, its FLOP/s as a share of the machine's matrix rate."""
            rates = {precision: matrix_rate(args, precision) for precision in ("float32", "bfloat16")}
            rate = (
                max(rates.values())
                if any(compare.machine()["flags"][flag] for flag in compare.BFLOAT16_FLAGS)
                else rates["float32"]
            )
            found = {}
            for name, (lowest, cache) in ours.items():
                if name in medians:
                    tokens = medians[name]["ms_per_step"] / 1000 * medians[name]["tokens_per_s"]
                    work = flop_per_token(args, lowest, cache > 0, tokens / args.batch) * medians[name]["tokens_per_s"]
                    found[name] = {"flop_per_s": work, "share": work / rate}
                    print(f"{name}: {work / 1e9:.0f} GFLOP/s, {100 * work / rate:.0f} % of the matrix rate")
            return {"matrix_rates": rates, "matrix_shares": found}

        compare.compare(
            "step",
            args,
            [
                *(compare.ours(args, name, lowest, cache, measure) for name, (lowest, cache) in ours.items()),
                *(compare.peer(args, "step", way, options=given) for way in PEERS),
                *(compare.peer(args, "step", way + ", upper third", upper, given) for way in UPPER),
            ],
            "tokens_per_s",
            higher_is_better=True,
            derive=shares,
        )


if __name__ == "__main__":
    main()
