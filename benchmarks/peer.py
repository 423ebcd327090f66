"""Measure one way of training with the adapters library, as a user's script would do it, in a process of its own.

    python peer.py step WAY [--lowest LAYER] --batches FILE --model DIR --train FILE ...
    python peer.py trial WAY [--lowest LAYER] --dev FILE --epochs N --model DIR --train FILE ...

The plan is that of plan.py in the layers from --lowest upwards. A step is timed over given batches of row numbers;
sorted ways deal the same rows into batches of alike length. A trial makes epochs with a dev score after each. Starting
Python, loading the model, tokenising and, for steps, padding are not timed. Prints one JSON object.
"""

import argparse
import contextlib
import csv
import json
import math
import random
import resource
import time

import plan

EVAL_BATCH = 64
# Of each way: tokens to pad to (the longest row of the batch if not said), dropout, rows of alike length together,
# bfloat16 by autocast or as the type of all weights, and torch.compile.
WAYS = {
    "autopeft": {"pad": plan.MAX_LENGTH, "dropout": True},
    "dynamic": {"dropout": True},
    "dynamic autocast": {"dropout": True, "autocast": True},
    "sorted": {"sort": True},
    "sorted autocast": {"sort": True, "autocast": True},
    "sorted bfloat16": {"sort": True, "bfloat16": True},
    "sorted bfloat16 compiled": {"sort": True, "bfloat16": True, "compile": True},
}


class Peer:
    """A model with the plan's modules and a head, its optimiser, and tokenised rows."""

    def __init__(self, args):
        import torch
        from adapters import AutoAdapterModel
        from transformers import AutoTokenizer

        torch.set_num_threads(args.threads)
        torch.manual_seed(args.seed)
        self.args, self.torch, self.way = args, torch, WAYS[args.way]
        self.rng = random.Random(args.seed)
        self.tokenizer = AutoTokenizer.from_pretrained(args.model)
        none = {} if self.way.get("dropout") else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.model = AutoAdapterModel.from_pretrained(args.model, **none)

    def build(self):
        from adapters import ConfigUnion, LoRAConfig, PrefixTuningConfig, SeqBnConfig

        hidden, skip = self.model.config.hidden_size, list(range(self.args.lowest))
        self.model.add_classification_head("task", num_labels=self.args.outputs, layers=1)
        self.model.add_adapter(
            "task",
            ConfigUnion(
                LoRAConfig(r=plan.LORA_RANK, alpha=plan.LORA_RANK, leave_out=skip),
                SeqBnConfig(
                    reduction_factor=hidden / (plan.SERIAL_WIDTH + 0.5), leave_out=skip
                ),  # rounded down to the width
                PrefixTuningConfig(flat=True, prefix_length=plan.PREFIX_LENGTH, leave_out=skip),
            ),
        )
        self.model.train_adapter("task")
        self.model.to(self.args.device, self.torch.bfloat16 if self.way.get("bfloat16") else None)
        self.model.train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self.torch.optim.AdamW(self.trained, lr=plan.LEARNING_RATE, weight_decay=plan.WEIGHT_DECAY)
        self.forward = self.torch.compile(self.model, dynamic=True) if self.way.get("compile") else self.model

    def read(self, path):
        """The tokenised rows and the labels of a file."""
        with open(path, encoding="utf-8-sig", newline="") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
        encoded = [
            self.tokenizer(row[self.args.text], row[self.args.text_pair], truncation=True, max_length=plan.MAX_LENGTH)
            for row in rows
        ]
        return encoded, [float(row[self.args.label]) for row in rows]

    def deal(self, encoded, rows):
        """Rows in batches: in their order, or rows of alike length together and the batches in random order."""
        if self.way.get("sort"):
            rows = sorted(rows, key=lambda i: len(encoded[i]["input_ids"]))
        batches = [rows[i : i + self.args.batch] for i in range(0, len(rows), self.args.batch)]
        if self.way.get("sort"):
            self.rng.shuffle(batches)
        return batches

    def collate(self, encoded, labels, batch):
        padding = {"padding": "max_length", "max_length": self.way["pad"]} if "pad" in self.way else {"padding": True}
        inputs = self.tokenizer.pad(
            {k: [encoded[i][k] for i in batch] for k in encoded[0]}, return_tensors="pt", **padding
        )
        inputs = inputs.to(self.args.device)
        target = self.torch.tensor([labels[i] for i in batch], device=self.args.device)
        return inputs, target if self.args.outputs == 1 else target.long()

    def logits(self, inputs):
        autocast = (
            self.torch.autocast(self.args.device, self.torch.bfloat16)
            if self.way.get("autocast")
            else contextlib.nullcontext()
        )
        with autocast:
            logits = self.forward(**inputs).logits
        return logits.float()

    def step(self, inputs, target):
        functional = self.torch.nn.functional
        logits = self.logits(inputs)
        loss = (
            functional.mse_loss(logits[:, 0], target)
            if self.args.outputs == 1
            else functional.cross_entropy(logits, target)
        )
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.trained, plan.MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def clock(self):
        """Seconds, when all that was asked of a GPU is done."""
        if self.args.device != "cpu":
            self.torch.cuda.synchronize()
        return time.perf_counter()

    def score(self, encoded, labels):
        """Pearson's correlation for regression, else accuracy."""
        torch, batch = self.torch, self.args.batch
        self.args.batch = EVAL_BATCH
        batches = self.deal(encoded, list(range(len(encoded))))
        self.args.batch = batch
        self.model.eval()
        outputs = torch.empty(len(encoded), self.args.outputs)
        with torch.no_grad():
            for rows in batches:
                outputs[rows] = self.logits(self.collate(encoded, labels, rows)[0]).cpu()
        self.model.train()
        truth = torch.tensor(labels)
        if self.args.outputs == 1:
            return torch.corrcoef(torch.stack([outputs[:, 0], truth]))[0, 1].item()
        return (outputs.argmax(1) == truth).float().mean().item()


def time_steps(peer):
    args = peer.args
    peer.build()
    encoded, labels = peer.read(args.train)
    with open(args.batches) as f:
        given = json.load(f)
    warm_up, timed = given[: args.warm_up], given[args.warm_up :]
    for batch in peer.deal(encoded, [row for batch in warm_up for row in batch]):
        peer.step(*peer.collate(encoded, labels, batch))
    if peer.way.get("compile"):  # its shapes are compiled before the clock starts
        for batch in peer.deal(encoded, [row for batch in timed for row in batch]):
            peer.step(*peer.collate(encoded, labels, batch))
    rows = [row for batch in timed for row in batch]
    prepared = [peer.collate(encoded, labels, batch) for batch in peer.deal(encoded, rows)]
    start = peer.clock()
    for inputs, target in prepared:
        peer.step(inputs, target)
    seconds = peer.clock() - start
    tokens = sum(len(encoded[i]["input_ids"]) for i in rows)
    return {"tokens_per_s": tokens / seconds, "ms_per_step": 1000 * seconds / len(prepared), "tokens": tokens}


def schedule(step, steps):
    """Share of the learning rate: a linear rise, then linear to 0."""
    warm_up = math.ceil(plan.WARMUP_RATIO * steps)
    return step / warm_up if step < warm_up else (steps - step) / max(1, steps - warm_up)


def time_trial(peer):
    args = peer.args
    train, dev = peer.read(args.train), peer.read(args.dev)
    rows = list(range(len(train[0])))
    start = time.perf_counter()
    peer.build()
    steps = args.epochs * math.ceil(len(rows) / args.batch)
    rate = peer.torch.optim.lr_scheduler.LambdaLR(peer.optimizer, lambda step: schedule(step, steps))
    scores = []
    for _ in range(args.epochs):
        peer.rng.shuffle(rows)
        for batch in peer.deal(train[0], rows):
            peer.step(*peer.collate(*train, batch))
            rate.step()
        begin = time.perf_counter()
        scores.append(peer.score(*dev))
    end = time.perf_counter()
    tokens = sum(len(row["input_ids"]) for row in dev[0])
    return {"wall_s": end - start, "steps": steps, "score": max(scores), "eval_tokens_per_s": tokens / (end - begin)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["step", "trial"])
    parser.add_argument("way", choices=WAYS)
    for name in ("model", "train", "text", "text-pair", "label"):
        parser.add_argument("--" + name, required=True)
    for name in ("outputs", "threads", "batch", "seed", "lowest", "warm-up", "epochs"):
        parser.add_argument("--" + name, type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches")
    parser.add_argument("--dev")
    args = parser.parse_args()
    peer = Peer(args)
    figures = time_steps(peer) if args.what == "step" else time_trial(peer)
    print(
        json.dumps(
            {
                **figures,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "torch": peer.torch.__version__,
                "threads": args.threads,
            }
        )
    )


if __name__ == "__main__":
    main()
