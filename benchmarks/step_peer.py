"""Time training steps of the adapters library, as a user's script would run them.

One process measures one way of working, so that its peak memory is its own:

    python step_peer.py WAY --model DIR --train FILE --text COL --text-pair COL --label COL ...

Ways: autopeft (float32, padded to 128 tokens, dropout), dynamic (padded to the longest of the batch,
dropout; with --autocast bfloat16), bucketed (batches of similar length, no dropout).
The plan is that of plan.py in every layer. Prints one JSON object. Tokenising and padding are not timed.
"""
import argparse
import contextlib
import csv
import json
import random
import resource
import time

import plan


def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["autopeft", "dynamic", "bucketed"])
    for name in ("model", "train", "text", "text-pair", "label"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--outputs", type=int, default=2, help="number of labels; 1 is regression")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--autocast", action="store_true")
    return parser


class Peer:
    """A model with the plan's modules and a head, its optimiser, and batches of tokenised rows."""

    def __init__(self, args):
        import torch
        import transformers

        torch.set_num_threads(args.threads)
        self.args, self.torch = args, torch
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)

    def build(self):
        from adapters import AutoAdapterModel, ConfigUnion, LoRAConfig, PrefixTuningConfig, SeqBnConfig

        self.torch.manual_seed(self.args.seed)
        random.seed(self.args.seed)
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if self.args.way == "bucketed" else {}
        self.model = AutoAdapterModel.from_pretrained(self.args.model, **dropout)
        hidden = self.model.config.hidden_size
        self.model.add_classification_head("task", num_labels=self.args.outputs, layers=1)
        self.model.add_adapter("task", ConfigUnion(
            LoRAConfig(r=plan.LORA_RANK, alpha=plan.LORA_RANK),
            SeqBnConfig(reduction_factor=hidden / (plan.SERIAL_WIDTH + 0.5)),  # rounded down to the width
            PrefixTuningConfig(flat=True, prefix_length=plan.PREFIX_LENGTH)))
        self.model.train_adapter("task")
        self.model.train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self.torch.optim.AdamW(self.trained, lr=plan.LEARNING_RATE, weight_decay=plan.WEIGHT_DECAY)

    def read(self, path):
        """The tokenised rows and the labels of a file."""
        with open(path, encoding="utf-8-sig", newline="") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
        encoded = [self.tokenizer(row[self.args.text], row[self.args.text_pair], truncation=True, max_length=plan.MAX_LENGTH)
                   for row in rows]
        return encoded, [float(row[self.args.label]) for row in rows]

    def batches(self, encoded):
        """One epoch's batches of row numbers, in random order."""
        order = list(range(len(encoded)))
        random.shuffle(order)
        if self.args.way == "bucketed":
            order.sort(key=lambda i: len(encoded[i]["input_ids"]))
        batches = [order[i:i + self.args.batch] for i in range(0, len(order), self.args.batch)]
        random.shuffle(batches)
        return batches

    def collate(self, encoded, labels, batch):
        padding = ({"padding": "max_length", "max_length": plan.MAX_LENGTH} if self.args.way == "autopeft"
                   else {"padding": True})
        inputs = self.tokenizer.pad({k: [encoded[i][k] for i in batch] for k in encoded[0]}, return_tensors="pt", **padding)
        target = self.torch.tensor([labels[i] for i in batch])
        return inputs, target if self.args.outputs == 1 else target.long()

    def logits(self, inputs):
        autocast = self.torch.autocast("cpu", self.torch.bfloat16) if self.args.autocast else contextlib.nullcontext()
        with autocast:
            logits = self.model(**inputs).logits
        return logits.float()

    def step(self, inputs, target):
        functional = self.torch.nn.functional
        logits = self.logits(inputs)
        loss = (functional.mse_loss(logits[:, 0], target) if self.args.outputs == 1
                else functional.cross_entropy(logits, target))
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.trained, plan.MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def answer(self, **figures):
        """Print the figures with what holds for every measurement."""
        print(json.dumps({
            "way": self.args.way + ("+autocast" if self.args.autocast else ""), **figures,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "torch": self.torch.__version__, "threads": self.args.threads}))


def main():
    options = parser()
    options.add_argument("--warm-up", type=int, default=3)
    options.add_argument("--steps", type=int, default=20)
    args = options.parse_args()
    peer = Peer(args)
    peer.build()
    encoded, labels = peer.read(args.train)
    batches = [batch for batch in peer.batches(encoded) if len(batch) == args.batch][:args.warm_up + args.steps]
    prepared = [peer.collate(encoded, labels, batch) for batch in batches]
    for inputs, target in prepared[:args.warm_up]:
        peer.step(inputs, target)
    timed = prepared[args.warm_up:]
    start = time.perf_counter()
    for inputs, target in timed:
        peer.step(inputs, target)
    seconds = time.perf_counter() - start
    examples = args.batch * len(timed)
    peer.answer(samples_per_s=examples / seconds, ms_per_step=1000 * seconds / len(timed),
                tokens_per_sample=sum(int(inputs["attention_mask"].sum()) for inputs, _ in timed) / examples)


if __name__ == "__main__":
    main()
