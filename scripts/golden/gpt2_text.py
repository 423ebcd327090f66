#!/usr/bin/env python3
"""Write evaluator/model/testdata/gpt2-text*: what transformers writes with GPT-2, and losses and gradients of written tokens.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2, safetensors 0.8.0. Run it in the
repository root, after gpt2.py.
"""
import itertools
import json
import random
import warnings

import safetensors.torch
import torch
import transformers

from gpt2 import ATTENTION_OUTPUT, INSERT, PLAN, load
from model import OUT, fill

CHECKPOINTS = ("gpt2", "gpt2-wide", "gpt2-untied")
LOSSES = [("modules", "adapters", 1, PLAN), ("peft", "peft", 2, ATTENTION_OUTPUT), ("full", "backbone", 1, [{}, {}])]
NEW = 9


def write_untied():
    """The narrow checkpoint with a matrix of its own for what is written."""
    model = transformers.GPT2LMHeadModel.from_pretrained(OUT / "gpt2", tie_word_embeddings=False, dtype=torch.float32)
    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.transformer.wte.weight))
    fill(model.lm_head.weight, torch.Generator().manual_seed(170), 0.3)
    model.save_pretrained(OUT / "gpt2-untied")
    (OUT / "gpt2-untied" / "generation_config.json").unlink(missing_ok=True)
    (OUT / "gpt2-untied" / "model.safetensors").chmod(0o644)


def writer(where):
    return transformers.GPT2LMHeadModel.from_pretrained(OUT / where, attn_implementation="eager", dtype=torch.float32).eval()


def prompts(vocab, seed, lengths):
    rng = random.Random(seed)
    return [[rng.randrange(vocab) for _ in range(n)] for n in lengths]


def loss(name, where, library, version, layers, seed):
    """The sum of the losses of the tokens that are written after each row's prompt, and its gradients."""
    model = load(where)
    own = writer(where)
    model, names = INSERT[library](model, layers)
    for t in model.parameters():
        t.requires_grad_(False)
    g = torch.Generator().manual_seed(seed)
    for k, t in {id(t): (k, t) for k, (t, _) in names.items()}.values():
        t.requires_grad_(True)
        if not k.endswith("magnitude") and not k.startswith("backbone."):
            fill(t, g, 0.2 if t.dim() == 2 else 0.3)
    rows, reads = prompts(model.config.vocab_size, seed, [9, 12, 4]), [4, 1, 3]
    width = max(map(len, rows))
    ids = torch.tensor([r + [0] * (width - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
    labels = torch.tensor([[-100] * n + r[n:] + [-100] * (width - len(r)) for r, n in zip(rows, reads)])
    table = own.lm_head.weight if where == "gpt2-untied" else dict(model.named_parameters())[
        next(k for k, _ in model.named_parameters() if k.endswith("wte.weight"))]
    logits = model(input_ids=ids, attention_mask=mask).last_hidden_state @ table.T
    sum_ = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    sum_.backward()
    if library == "backbone":  # the library's own loss is a mean
        theirs = own(input_ids=ids, attention_mask=mask, labels=labels).loss * (labels[:, 1:] != -100).sum()
        assert abs(theirs - sum_) < 1e-4, (theirs, sum_)
    file = {f"value.{k}": cut(t.detach()).clone().contiguous() for k, (t, cut) in names.items() if not k.startswith("backbone.")}
    file |= {f"grad.{k}": cut(t.grad).clone().contiguous() for k, (t, cut) in names.items()}
    safetensors.torch.save_file(file, OUT / f"gpt2-text-{name}.safetensors")
    written = torch.cat([logits[i, n - 1:len(r) - 1] for i, (r, n) in enumerate(zip(rows, reads))]).detach()
    return {"name": f"gpt2-text-{name}", "checkpoint": where, "plan": {"version": version, "layers": layers}, "backbone": library == "backbone",
            "rows": rows, "reads": reads, "loss": sum_.item(), "logits": [round(x, 6) for x in written.flatten().tolist()]}


def generate(model, prompt, settings):
    keys = dict(num_beams=settings["beams"], length_penalty=settings["penalty"], no_repeat_ngram_size=settings["ngram"],
                early_stopping={"true": True, "false": False}.get(settings["early"], settings["early"]),
                min_new_tokens=settings["least"] or None, max_new_tokens=NEW, do_sample=False, pad_token_id=0, eos_token_id=settings["eos"],
                repetition_penalty=1.0)
    if settings["beams"] == 1:
        keys.pop("length_penalty"), keys.pop("early_stopping")
    with torch.no_grad():
        out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), **keys)[0].tolist()
    return out[len(prompt):]


def cut(tokens, eos):
    """Without what is filled up behind the end."""
    for i, t in enumerate(tokens):
        if t in eos:
            return tokens[:i + 1]
    return tokens


def generated():
    greedy, beams = [], []
    for c, where in enumerate(CHECKPOINTS):
        model = writer(where)
        texts = prompts(model.config.vocab_size, 60 + c, [1, 2, 3, 4, 5, 7])
        ends = [sorted({t for p in texts for t in generate(model, p, dict(beams=1, penalty=1.0, ngram=0, early="false", least=0, eos=[39]))})[k::7][:2] for k in (0, 3)]
        ends = [e[:1] for e in ends] + ends
        for i, (prompt, eos) in enumerate(itertools.product(texts, ends)):
            for ngram, least in itertools.product((0, 1, 2, 3), (0, 3)):
                s = dict(beams=1, penalty=1.0, ngram=ngram, early="false", least=least, eos=eos)
                greedy.append((where, prompt, eos, 1, 1.0, "false", ngram, least, cut(generate(model, prompt, s), eos)))
            for j, (n, penalty, early, ngram, least) in enumerate(itertools.product((2, 3, 4, 5), (0.0, 1.0, 2.0, -0.5), ("true", "false", "never"), (0, 2), (0, 3))):
                if (j + 17 * i) % 26 == 0:
                    s = dict(beams=n, penalty=penalty, ngram=ngram, early=early, least=least, eos=eos)
                    beams.append((where, prompt, eos, n, penalty, early, ngram, least, cut(generate(model, prompt, s), eos)))
    return greedy, beams


def main():
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    write_untied()
    cases = [loss(f"{where}-{name}", where, library, version, plan, 300 + i) for i, (where, (name, library, version, plan)) in enumerate(
        itertools.product(("gpt2", "gpt2-wide", "gpt2-untied"), LOSSES)) if (where, name) not in (("gpt2-wide", "full"), ("gpt2-untied", "full"), ("gpt2-untied", "peft"))]
    greedy, beams = generated()
    print(len(greedy), "greedy,", len(beams), "beams,", sum(len(x[-1]) < NEW for x in greedy + beams), "end early")
    lines = lambda items: "[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in items) + "\n]"
    (OUT / "gpt2-text.json").write_text('{"new":%d,"losses":%s,"greedy":%s,"beams":%s}\n' % (NEW, lines(cases), lines(greedy), lines(beams)))


if __name__ == "__main__":
    main()
