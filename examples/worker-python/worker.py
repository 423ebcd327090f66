#!/usr/bin/env python3
"""A worker for peftsearch: LoRA of Hugging Face peft on any encoder that transformers' AutoModel loads.

It speaks version 2 of the worker protocol (docs/reference/worker-protocol.md); study.yaml beside it uses it.
"""
import copy, csv, hashlib, inspect, json, math, os, queue, random, re, resource, sys, threading, time

out = os.fdopen(os.dup(1), "w", buffering=1)  # the messages; what libraries print goes to stderr
os.dup2(2, 1)

import peft
import torch
from scipy import stats
from sklearn import metrics
from transformers import AutoModel, AutoTokenizer, get_scheduler

# The linear maps that a plan names, by the ends of their names in a layer of BERT, DeBERTa, DistilBERT, MPNet …
TARGETS = {"query": "query(_proj)?|q(_lin|_proj)?", "key": "key(_proj)?|k(_lin|_proj)?",
           "value": "value(_proj)?|v(_lin|_proj)?",
           "attention_output": r"attention\.output\.dense|attn\.o|out_lin|out_proj",
           "ffn_in": r"intermediate\.dense|lin1|fc1", "ffn_out": r"(?<!attention\.)output\.dense|lin2|fc2"}
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


class Failed(Exception):
    """A trial's failure: its kind and its message."""


class Worker:
    def __init__(self):
        self.inbox, self.spoke = queue.Queue(), time.time()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in sys.stdin:
            self.inbox.put(json.loads(line))
        os._exit(0)  # an order, or the supervisor is gone

    def send(self, **message):
        out.write(json.dumps(message, allow_nan=False) + "\n")
        self.spoke = time.time()

    def alive(self, trial):
        if time.time() - self.spoke > 10:
            self.send(type="progress", trial=trial)

    def run(self):
        while True:
            message = self.inbox.get()
            answer = {"hello": self.load, "evaluate": self.evaluate}.get(message["type"])
            if message["type"] == "stop":  # of a trial that has ended
                continue
            try:
                if not answer:
                    raise Failed("internal", f"this worker does not know {message['type']}")
                answer(message)
            except Exception as error:
                kind, text = "internal", f"{type(error).__name__}: {error}"
                if isinstance(error, Failed):
                    kind, text = error.args
                elif isinstance(error, torch.OutOfMemoryError):
                    kind = "out_of_memory"
                self.send(type="failed", trial=message.get("trial", 0), kind=kind, message=text)

    def load(self, hello):
        self.task, self.head, settings = hello["task"], hello["head"], hello["settings"]
        torch.set_num_threads(settings["threads"])
        self.device = settings["device"]
        dtype = torch.bfloat16 if settings["precision"] == "bfloat16" else torch.float32
        self.tokenizer = AutoTokenizer.from_pretrained(hello["model"])
        self.base = AutoModel.from_pretrained(hello["model"], torch_dtype=dtype).to(self.device).eval()
        self.base.requires_grad_(False)
        self.takes = set(inspect.signature(self.base.forward).parameters)  # DistilBERT has no token types
        rows = {split: self.rows(split) for split in ("train", "dev", "test")}
        found = [label for _, label in rows["train"]]
        self.labels = [] if self.task["kind"] == "regression" else self.task.get("labels") or sorted(set(found))
        self.mean, self.scale = 0.0, 1.0
        if not self.labels:
            self.mean, self.scale = (f(list(map(float, found))) for f in (stats.tmean, lambda v: stats.tstd(v) or 1.0))
        self.splits, counts, limit = {}, {}, self.task["max_length"]
        for split, examples in rows.items():
            tokens = [self.tokenizer(*texts, truncation=True, max_length=limit) for texts, _ in examples]
            targets = [self.labels.index(label) if self.labels else float(label) for _, label in examples]
            whole = [len(self.tokenizer(*texts, verbose=False)["input_ids"]) for texts, _ in examples]
            self.splits[split] = tokens, targets
            counts[split] = {"rows": len(examples), "truncated": sum(n > limit for n in whole)}
        # a pooler that the checkpoint lacks is random, and not used
        weights = [p for name, p in self.base.named_parameters() if "pooler" not in name]
        config = self.base.config
        self.send(type="ready", protocol=2, precision=str(dtype).removeprefix("torch."), splits=counts, geometry={
            "architecture": config.model_type, "layers": config.num_hidden_layers, "heads": config.num_attention_heads,
            "hidden": config.hidden_size, "ffn": getattr(config, "intermediate_size", getattr(config, "hidden_dim", 0)),
            "backbone_params": sum(p.numel() for p in weights)}, fingerprint={
            "model": digest(*(p.float().cpu().numpy() for p in weights)), "data": digest(json.dumps(rows).encode())})

    def rows(self, split):
        path = self.task.get(split, "")
        columns = split == "test" and self.task.get("test_columns") or self.task["columns"]
        if not path.endswith((".tsv", ".csv")):
            raise Failed("internal", f"task.{split}: this worker reads .tsv and .csv files, of every split")
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.endswith(".tsv") else {}
        with open(path, encoding="utf-8", newline="") as file:
            texts = [columns[key] for key in ("text", "text_pair") if columns.get(key)]
            return [([row[name] for name in texts], row[columns["label"]]) for row in csv.DictReader(file, **dialect)]

    def build(self, plan, full):
        """A copy of the pretrained model with a plan's LoRA, and a new head."""
        model = copy.deepcopy(self.base).requires_grad_(full)
        linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        layers, hidden, rank, alpha = model.config.num_hidden_layers, model.config.hidden_size, {}, {}
        if len(plan["layers"]) != layers:
            raise Failed("invalid_plan", f"the plan has {len(plan['layers'])} layers, the model {layers}")
        for i, layer in enumerate(plan["layers"]):
            if layer.keys() - {"lora"}:
                raise Failed("invalid_plan", f"layer {i} has {', '.join(layer)}, this worker knows lora alone")
            for target in layer.get("lora", {}).get("targets", []):
                names = [name for name in linear if re.search(rf"(^|\.){i}\.(.*\.)?({TARGETS[target]})$", name)]
                if len(names) != 1:
                    raise Failed("invalid_plan", f"{target} of layer {i} is {names} in a {model.config.model_type}")
                rank[names[0]], alpha[names[0]] = layer["lora"]["rank"], layer["lora"]["alpha"]
        if rank:
            lora = peft.LoraConfig(target_modules=list(rank), rank_pattern=rank, alpha_pattern=alpha)
            model = peft.get_peft_model(model, lora)
        dense = [torch.nn.Linear(hidden, hidden), torch.nn.Tanh()] if self.head == "dense" else []
        head = torch.nn.Sequential(*dense, torch.nn.Linear(hidden, len(self.labels) or 1))
        return torch.nn.ModuleDict({"model": model, "head": head}).to(self.device)

    def logits(self, net, tokens):
        batch = self.tokenizer.pad(tokens, return_tensors="pt").to(self.device)
        hidden = net["model"](**{name: x for name, x in batch.items() if name in self.takes}).last_hidden_state
        return net["head"](hidden[:, 0].float())

    def loss(self, logits, targets):
        if self.labels:
            return torch.nn.functional.cross_entropy(logits, torch.tensor(targets, device=self.device))
        targets = (torch.tensor(targets, device=self.device) - self.mean) / self.scale
        return torch.nn.functional.mse_loss(logits[:, 0], targets)

    @torch.no_grad()
    def score(self, net, split, trial):
        (tokens, targets), answers = self.splits[split], []
        for i in range(0, len(tokens), 64):
            answers.append(self.logits(net, tokens[i:i + 64]).cpu())
            self.alive(trial)
        answers = torch.cat(answers)
        if not answers.isfinite().all():
            raise Failed("diverged", "the model's output is not finite")
        if self.labels:
            best = answers.argmax(dim=1).tolist()
            found = {"accuracy": metrics.accuracy_score(targets, best), "mcc": metrics.matthews_corrcoef(targets, best),
                     "f1_macro": metrics.f1_score(targets, best, average="macro", zero_division=0)}
            if len(self.labels) == 2:
                found["f1"] = metrics.f1_score(targets, best, zero_division=0)
        else:
            values = answers[:, 0].tolist()
            found = {"spearman": stats.spearmanr(values, targets)[0], "pearson": stats.pearsonr(values, targets)[0]}
        return {name: 0.0 if math.isnan(value) else float(value) for name, value in found.items()}

    def evaluate(self, job):
        began, trial, budget, how = time.time(), job["trial"], job["budget"], job["candidate"]["training"]
        if job.get("output") or how["dropout"] or how["prefix_mlp"]:
            raise Failed("internal", "this worker keeps no weights and knows neither dropout nor prefixes")
        torch.manual_seed(job["seed"])
        net = self.build(job["candidate"]["plan"], how["backbone"])
        trained = [p for p in net.parameters() if p.requires_grad]
        groups = [{"params": [p for p in trained if p.dim() > 1], "weight_decay": how["weight_decay"]},
                  {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0}]
        optimizer = torch.optim.AdamW(groups, lr=how["learning_rate"])
        tokens, targets = self.splits["train"]
        rows = range(len(tokens))  # a subset is the same in every trial
        rows = random.Random(self.task["split_seed"]).sample(rows, min(len(rows), budget["train_rows"] or len(rows)))
        size, steps_of_epoch = how["batch_size"], math.ceil(len(rows) / how["batch_size"])
        steps = max(1, round(budget["epochs"] * steps_of_epoch))
        rungs = {max(1, math.ceil(share * steps)) for share in budget["rungs"]}
        rate = get_scheduler(SCHEDULES[how["schedule"]], optimizer, math.ceil(how["warmup_ratio"] * steps), steps)
        best, losses, stale, stopped = {"score": -math.inf}, [], 0, ""
        for step in range(steps):
            if step % steps_of_epoch == 0:
                order = random.Random(job["seed"] * 1000 + step).sample(rows, len(rows))
            batch = order[step % steps_of_epoch * size:][:size]
            loss = self.loss(self.logits(net, [tokens[i] for i in batch]), [targets[i] for i in batch])
            if not loss.isfinite():
                raise Failed("diverged", f"the loss is {loss.item()} at step {step + 1}: try a lower learning rate")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, how["max_grad_norm"] or math.inf)
            optimizer.step()
            rate.step()
            losses.append(loss.item())
            self.alive(trial)
            if step + 1 in rungs:
                dev = self.score(net, "dev", trial)
                score, stale = dev[self.task["metric"]], stale + 1
                if score > best["score"]:
                    best, stale = {"score": score, "best_step": step + 1, "dev": dev}, 0
                    weights = [p.detach().clone() for p in trained]
                loss = sum(losses) / len(losses)
                self.send(type="progress", trial=trial, step=step + 1, steps=steps, loss=loss, score=score)
                losses = []
                stopped = self.inbox.get().get("reason", "")  # the answer: go, or a stop with its reason
            elif not self.inbox.empty():
                stopped = self.inbox.get().get("reason", "")
            if stopped or budget["patience"] and stale >= budget["patience"]:
                break
        if stopped and "dev" not in best:
            raise Failed("internal", "stopped before the first rung: " + stopped)
        result = best | ({"stopped": stopped} if stopped else {})
        if job.get("test") and not stopped:
            for p, w in zip(trained, weights):
                p.data.copy_(w)
            result["test"] = self.score(net, "test", trial)
        head, used = sum(p.numel() for p in net["head"].parameters()), resource.getrusage(resource.RUSAGE_SELF)
        self.send(type="result", trial=trial, steps=step + 1, head_params=head, wall_s=time.time() - began,
                  peak_bytes=used.ru_maxrss << 10, **result)


def digest(*parts):
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


if __name__ == "__main__":
    Worker().run()
