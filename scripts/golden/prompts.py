#!/usr/bin/env python3
"""Write evaluator/model/testdata/prompts: what peft and adapters compute with prompts at the input, and without the
modules of the lowest layers.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2, safetensors 0.8.0. Run it in
the repository root, after scripts/golden/model.py has written the checkpoints.

peft puts the tokens before the embeddings of positions, and has P-tuning's encoders; adapters puts them behind the
embeddings' LayerNorm, and leaves lower layers out with skip_layers. In hybrids peft makes the tokens and adapters has the
layers.
"""
import json
import math
import pathlib
import sys

import adapters
import adapters.composition as ac
import peft
import safetensors.torch
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import methods  # noqa: E402
import model as golden  # noqa: E402

OUT = golden.OUT / "prompts"


def in_peft(checkpoint, plan, training):
    """A prompt alone, which an encoder may generate."""
    c = transformers.AutoConfig.from_pretrained(golden.OUT / checkpoint)
    c.hidden_dropout_prob = c.attention_probs_dropout_prob = 0.0
    model = transformers.AutoModelForSequenceClassification.from_pretrained(golden.OUT / checkpoint, config=c, attn_implementation="eager").train()
    length, encoder = plan["input"]["prompt"]["length"], training.get("encoder")
    if encoder:
        config = peft.PromptEncoderConfig(task_type="SEQ_CLS", num_virtual_tokens=length, encoder_hidden_size=training["width"],
                                          encoder_reparameterization_type=encoder.upper())
    else:
        config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=length)
    model = peft.get_peft_model(model, config)
    for p in model.parameters():
        p.requires_grad_(False)
    p, names = dict(model.prompt_encoder["default"].named_parameters()), {}
    if not encoder:
        return model, {"input.prompt.tokens": p["embedding.weight"]}
    names["prompt_encoder.embedding"] = p["embedding.weight"]
    for n, at in enumerate((0, 2, 4) if encoder == "mlp" else (0, 2)):
        for part in ("weight", "bias"):
            names[f"prompt_encoder.mlp.{n}.{part}"] = p[f"mlp_head.{at}.{part}"]
    for n in range(2 if encoder == "lstm" else 0):
        for ours, suffix in (("forward", ""), ("backward", "_reverse")):
            for kind, letters in (("input", "ih"), ("state", "hh")):
                for part in ("weight", "bias"):
                    names[f"prompt_encoder.lstm.{n}.{ours}.{kind}.{part}"] = p[f"lstm_head.{part}_{letters}_l{n}{suffix}"]
    return model, names


def in_adapters(checkpoint, plan, training):
    """The layers' adapters in a stack, before which comes that of the prompt: the library reads the first one's."""
    model = golden.load(str(golden.OUT / checkpoint))
    for p in model.parameters():
        p.requires_grad_(False)
    prompt = plan.get("input", {}).get("prompt")
    if not prompt:
        model, names, _ = methods.in_adapters(model, plan["layers"])
    else:
        names, setup = {}, ["prompt"]
        if any(plan["layers"]):
            model, names, _ = methods.in_adapters(model, plan["layers"])
            setup += list(model.active_adapters.children)
        else:
            adapters.init(model)
        combine = "prefix_after_bos" if prompt.get("after_first") else "prefix"
        model.add_adapter("prompt", config=adapters.PromptTuningConfig(prompt_length=prompt["length"], combine=combine))
        model.set_active_adapters(ac.Stack(*setup))
        for p in model.parameters():
            p.requires_grad_(False)
        names["input.prompt.tokens"] = model.prompt_tuning.prompt_tunings["prompt"].prompt_embedding.weight
    return model, names


class InBoth(torch.nn.Module):
    """A prompt of peft before a model of adapters, as PeftModelForSequenceClassification joins them."""

    def __init__(self, prompted, model):
        super().__init__()
        self.prompted, self.model = prompted, model

    def get_prompt_embedding_to_save(self, name):
        return self.prompted.get_prompt_embedding_to_save(name)

    def forward(self, input_ids, attention_mask, token_type_ids):
        tokens = self.prompted.get_prompt(batch_size=len(input_ids))
        places = torch.ones(tokens.shape[:2], dtype=torch.long)
        return self.model(inputs_embeds=torch.cat([tokens, self.model.get_input_embeddings()(input_ids)], 1),
                          attention_mask=torch.cat([places, attention_mask], 1), token_type_ids=torch.cat([0 * places, token_type_ids], 1))


def in_both(checkpoint, plan, training):
    prompted, names = in_peft(checkpoint, plan, training)
    model = golden.load(str(golden.OUT / checkpoint))
    inserted, prefixes = golden.insert(model, plan, model.config.hidden_size)
    return InBoth(prompted, model), names | inserted | {f"layers.{i}.prefix": t for i, _, t in prefixes}


def prompt(length, **settings):
    return {"prompt": {"length": length} | settings}


NONE = [{}, {}, {}]
LORA = {"lora": {"rank": 2, "alpha": 4, "targets": ["query", "ffn_out"]}}
HYBRID = [{"serial": {"width": 3}, "prefix": {"length": 2}}, {"parallel": {"width": 4}} | LORA, {"serial": {"width": 2}, "prefix": {"length": 3}}]
ALL = [{"serial": {"width": 3}, "parallel": {"width": 2}, "prefix": {"length": 2}} | LORA,
       {"parallel": {"width": 4}, "lora": {"rank": 1, "alpha": 2, "targets": ["key", "value"]}},
       {"serial": {"width": 2}, "prefix": {"length": 3}, "lora": {"rank": 3, "alpha": 3, "targets": ["ffn_in"]}}]
LENGTHS = [7, 11, 1, 4]
CASES = [  # name, how, checkpoint, input, layers, training
    ("prompt", in_peft, "bert", prompt(3), NONE, {}),
    ("prompt-roberta", in_peft, "roberta", prompt(4), NONE, {}),
    ("p-tuning-mlp", in_peft, "bert", prompt(3), NONE, {"encoder": "mlp", "width": 5}),
    ("p-tuning-lstm", in_peft, "bert", prompt(4), NONE, {"encoder": "lstm", "width": 6}),
    ("normed", in_adapters, "bert", prompt(3, normed=True), NONE, {}),
    ("after-first", in_adapters, "bert", prompt(2, normed=True, after_first=True), NONE, {}),
    ("hybrid", in_adapters, "bert", prompt(2, normed=True, after_first=True), HYBRID, {}),
    # Layers that are bare in each step: those that the seed draws of AdapterDrop.
    ("bare-1", in_adapters, "bert", {}, HYBRID, {"bare": [1, 0, 1, 0, 1], "seed": 21}),
    ("bare-2", in_adapters, "bert", {}, HYBRID, {"bare": [2, 0, 1, 2, 1], "seed": 21}),
    ("prompt-all", in_both, "bert", prompt(2), ALL, {}),
    ("p-tuning-mlp-all", in_both, "bert", prompt(3), ALL, {"encoder": "mlp", "width": 4}),
    ("p-tuning-lstm-hybrid", in_both, "bert", prompt(2), HYBRID, {"encoder": "lstm", "width": 3}),
]


def case(name, how, checkpoint, at_input, layers, training, seed):
    c = transformers.AutoConfig.from_pretrained(golden.OUT / checkpoint)
    layers = layers[:c.num_hidden_layers]
    plan = {"version": 2, "input": at_input, "layers": layers}
    model, names = how(checkpoint, plan, training)
    hidden = c.hidden_size
    for p in names.values():
        p.requires_grad_(True)
    g = torch.Generator().manual_seed(seed)
    for key, p in names.items():
        with torch.no_grad():
            p.copy_(torch.randn(p.shape, generator=g) * (0.2 if p.dim() == 2 and "prompt" not in key else 0.4))
    names |= {"head.weight": torch.nn.Parameter(torch.randn(2, hidden, generator=g) * 0.2),
              "head.bias": torch.nn.Parameter(torch.randn(2, generator=g) * 0.3)}
    inputs, labels = golden.batch(c.vocab_size, c.pad_token_id, seed, LENGTHS), [i % 2 for i in range(len(LENGTHS))]

    def pieces(get):
        result = {}
        for key, p in names.items():
            value = get(p)
            value = (torch.zeros_like(p) if value is None else value).detach().clone().contiguous()
            if key.endswith(".prefix"):  # [p, 2 (keys, values), D] in adapters
                value = value.view(-1, 2, hidden)
                result[key + ".keys"], result[key + ".values"] = value[:, 0].clone(), value[:, 1].clone()
            else:
                result[key] = value
        return result

    def flat():
        if not training.get("encoder"):
            return {}
        with torch.no_grad():
            return {"input.prompt.tokens": model.get_prompt_embedding_to_save("default").clone()}

    def logits():
        if how is in_peft:
            h = model(**inputs, output_hidden_states=True).hidden_states[-1]
        else:
            h = model(**inputs).last_hidden_state
        return h[:, 0] @ names["head.weight"].T + names["head.bias"]

    trained = list(names.values())
    plain = [p for k, p in names.items() if k.endswith("bias")]
    optimizer = torch.optim.AdamW([{"params": [p for p in trained if not any(p is q for q in plain)], "weight_decay": golden.DECAY},
                                   {"params": plain, "weight_decay": 0.0}], lr=golden.PEAK)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, golden.WARMUP, golden.STEPS)
    file = {"value." + k: v for k, v in pieces(lambda p: p).items()} | {"flat." + k: v for k, v in flat().items()}
    rates, losses = [], []
    bare = training.get("bare", [])
    for step in range(len(bare) or 3):
        if bare:
            model.set_active_adapters(model.active_adapters, skip_layers=list(range(bare[step])))
        y = logits()
        value = torch.nn.functional.cross_entropy(y, torch.tensor(labels))
        optimizer.zero_grad()
        value.backward()
        if step == 0:
            first, grads = y.detach().clone(), pieces(lambda p: p.grad)
            file |= {"grad." + k: v for k, v in grads.items()}
            norm = math.sqrt(sum(float((v.double() ** 2).sum()) for v in grads.values()))
        torch.nn.utils.clip_grad_norm_(trained, golden.MAX_NORM)
        rates.append(schedule.get_last_lr()[0])
        losses.append(value.item())
        optimizer.step()
        schedule.step()
    after = {k: v for k, v in pieces(lambda p: p).items() if not k.startswith("prompt_encoder.")} | flat()
    file |= {"after." + k: v for k, v in after.items()}
    safetensors.torch.save_file({k: v.contiguous() for k, v in file.items()}, OUT / f"{name}.safetensors")
    return {
        "name": "prompts/" + name, "checkpoint": checkpoint, "plan": plan, "head": "linear", "outputs": 2,
        "prompt": {k: v for k, v in training.items() if k in ("encoder", "width")}, "bare": bare, "seed": training.get("seed", 0),
        "ids": inputs["input_ids"].flatten().tolist(), "types": inputs["token_type_ids"].flatten().tolist(), "lengths": LENGTHS,
        "labels": [float(x) for x in labels], "logits": first.flatten().tolist(), "losses": losses, "grad_norm": norm, "rates": rates,
        "weight_decay": golden.DECAY, "max_grad_norm": golden.MAX_NORM,
    }


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    cases = [case(*c, seed=300 + i) for i, c in enumerate(CASES)]
    (golden.OUT / "prompts.json").write_text(json.dumps({"cases": cases}, separators=(",", ":")).replace('{"name"', '\n{"name"'))


if __name__ == "__main__":
    main()
