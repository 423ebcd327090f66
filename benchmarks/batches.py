"""Compare dev scores of our trainings with those of a plain PyTorch loop over shuffled batches, over seeds.

    python3 benchmarks/prepare.py batches STSB_DIR
    make bench-batches

Two tasks: STS-B, and "sources", where the label of a sentence is the file of STS-B that it comes from, so that
lengths follow labels as they do in question classification. Two plans: LoRA r8 and serial adapters of 24. The loop
is AdamW with warm-up and clipping over batches that are shuffled anew in every epoch and padded to their longest row,
on the adapters library; like ours it has no dropout and trains standard scores of a regression's labels.
Each run is appended to a file as it ends, and a later call goes on from there.
"""

import argparse
import csv
import json
import math
import pathlib
import random
import statistics

import compare
import plan

DATA = compare.HERE / "batches" / "data"
TASKS = {
    "stsb": ("sentence1", "sentence2", "score", "spearman"),
    "sources": ("sentence1", None, "filename", "accuracy"),
}
PLANS = {
    "lora r8": {"lora": {"rank": 8, "alpha": 8, "targets": ["query", "value"]}},
    "serial 24": {"serial": {"width": 24}},
}
TRAINING = {
    "learning_rate": 2e-3,
    "schedule": "linear",
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "batch_size": 32,
    "max_grad_norm": 1.0,
}
EPOCHS = 2


def read(task, split):
    with open(DATA / task / f"{split}.tsv", encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))


def ours(args, task, modules, seed):
    text, pair, label, metric = TASKS[task]
    columns = {"text": text, "label": label} | ({"text_pair": pair} if pair else {})
    return compare.bench(
        args.worker,
        {
            "model": str(args.model),
            "head": "linear",
            "task": {
                "kind": "regression" if metric == "spearman" else "classification",
                "metric": metric,
                "columns": columns,
                "train": str(DATA / task / "train.tsv"),
                "dev": str(DATA / task / "dev.tsv"),
                "max_length": plan.MAX_LENGTH,
            },
            "settings": {"device": "cpu", "precision": args.precision, "threads": args.threads, "cache_memory": 0},
        },
        {
            "seed": seed,
            "candidate": {
                "plan": {"version": 1, "layers": [modules] * compare.config(args.model)["num_hidden_layers"]},
                "training": TRAINING,
            },
            "budget": {"epochs": EPOCHS, "rungs": [1]},
        },
        {"way": "ours"},
    )["score"]


def loop(args, task, modules, seed):
    import adapters
    import scipy.stats
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    torch.manual_seed(seed)
    rng = random.Random(seed)
    text, pair, label, metric = TASKS[task]
    train, dev = read(task, "train"), read(task, "dev")
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)

    def encode(rows):
        return [
            tokenizer(row[text], row[pair] if pair else None, truncation=True, max_length=plan.MAX_LENGTH)
            for row in rows
        ]

    if metric == "spearman":
        values = [float(row[label]) for row in train]
        mean, scale, outputs = statistics.fmean(values), statistics.pstdev(values), 1
        targets = torch.tensor([(value - mean) / scale for value in values])
    else:
        classes = sorted({row[label] for row in train})
        targets, outputs = torch.tensor([classes.index(row[label]) for row in train]), len(classes)

    model = transformers.AutoModel.from_pretrained(
        args.model, add_pooling_layer=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    adapters.init(model)
    hidden = model.config.hidden_size
    model.add_adapter(
        "task",
        adapters.LoRAConfig(r=8, alpha=8)
        if "lora" in modules
        else adapters.SeqBnConfig(reduction_factor=hidden / (modules["serial"]["width"] + 0.5)),
    )
    model.train_adapter("task")
    head = torch.nn.Linear(hidden, outputs)
    torch.nn.init.normal_(head.weight, std=0.02)
    torch.nn.init.zeros_(head.bias)
    model.train()

    def logits(encoded):
        return head(model(**tokenizer.pad(encoded, return_tensors="pt")).last_hidden_state[:, 0])

    trained = [p for p in model.parameters() if p.requires_grad] + list(head.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": TRAINING["weight_decay"]},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=TRAINING["learning_rate"],
    )
    size, encoded = TRAINING["batch_size"], encode(train)
    steps = EPOCHS * math.ceil(len(train) / size)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, math.ceil(TRAINING["warmup_ratio"] * steps), steps
    )
    for _ in range(EPOCHS):
        order = rng.sample(range(len(train)), len(train))
        for batch in (order[i : i + size] for i in range(0, len(order), size)):
            out = logits([encoded[i] for i in batch])
            loss = (
                torch.nn.functional.mse_loss(out[:, 0], targets[batch])
                if outputs == 1
                else torch.nn.functional.cross_entropy(out, targets[batch])
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, TRAINING["max_grad_norm"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()
    encoded = encode(dev)
    with torch.no_grad():
        out = torch.cat([logits(encoded[i : i + 64]) for i in range(0, len(encoded), 64)])
    if outputs == 1:
        return scipy.stats.spearmanr(out[:, 0], [float(row[label]) for row in dev]).statistic
    return (out.argmax(1) == torch.tensor([classes.index(row[label]) for row in dev])).float().mean().item()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--worker", default=compare.ROOT / "bin/peftsearch-worker", type=pathlib.Path)
    parser.add_argument("--model", default=compare.ROOT / "models/all-MiniLM-L6-v2", type=pathlib.Path)
    parser.add_argument("--precision", default="auto", help="of ours; the loop computes in float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=pathlib.Path, default=compare.HERE / "results/batches.jsonl")
    args = parser.parse_args()
    runs = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    known = {(run["task"], run["plan"], run["way"], run["seed"]) for run in runs}
    for seed in range(args.seeds):
        for task in TASKS:
            for name, modules in PLANS.items():
                for way, train in {"ours": ours, "loop": loop}.items():
                    if (task, name, way, seed) not in known:
                        run = {
                            "task": task,
                            "plan": name,
                            "way": way,
                            "seed": seed,
                            "score": train(args, task, modules, seed),
                        }
                        runs.append(run)
                        with args.out.open("a") as f:
                            f.write(json.dumps(run) + "\n")
    print("| task | plan | ours | shuffled PyTorch loop | difference, standard error |\n|---|---|---|---|---|")
    for task in TASKS:
        for name in PLANS:
            scores = [
                [run["score"] for run in runs if (run["task"], run["plan"], run["way"]) == (task, name, way)]
                for way in ("ours", "loop")
            ]
            mine, theirs = ((statistics.fmean(s), statistics.stdev(s)) for s in scores)
            error = math.hypot(mine[1], theirs[1]) / math.sqrt(args.seeds)
            print(
                f"| {task} | {name} | {mine[0]:.3f} ± {mine[1]:.3f} | {theirs[0]:.3f} ± {theirs[1]:.3f} "
                f"| {mine[0] - theirs[0]:+.3f}, {error:.3f} |"
            )


if __name__ == "__main__":
    main()
