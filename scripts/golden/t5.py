#!/usr/bin/env python3
"""Write evaluator/model/testdata/t5*: what the reference libraries compute for T5, T5 1.1 and mT5.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2, safetensors 0.8.0. Run it in
the repository root, after model.py. With prefixes adapters counts distances from the prefix's first key on; but for shifted
ones it counts them here as without one, and a prefix has no bias.
"""
import json

import adapters
import peft
import safetensors.torch
import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention

from model import OUT, batch, fill, lora

CHECKPOINTS = {  # layers as wide as attention, in a file of a language model; and not, in half precision and one with a head
    "t5": (transformers.T5ForConditionalGeneration, transformers.T5Config(
        vocab_size=40, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0), torch.float32),
    "t5-gated": (transformers.T5ForSequenceClassification, transformers.T5Config(
        vocab_size=40, d_model=32, d_kv=12, d_ff=48, num_layers=1, num_decoder_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=8, relative_attention_max_distance=6, tie_word_embeddings=False, decoder_start_token_id=0),
        torch.float16),
}
HIDDEN = [
    ("t5", {}), ("t5-gated", {}), ("t5-gated", {"model_type": "mt5"}), ("t5", {"feed_forward_proj": "gelu", "dense_act_fn": "gelu"}),
    ("t5-gated", {"feed_forward_proj": "gated-silu", "dense_act_fn": "silu"}), ("t5", {"layer_norm_epsilon": 0.1}), ("t5", {"relative_attention_max_distance": 20}),
    ("t5", {"decoder_start_token_id": 7}),
]
BUCKETS = [(32, 128), (8, 6), (64, 1000), (12, 7)]

OWN, CROSS = ("query", "value"), ("query", "value", "cross_query", "cross_value")
PLANS = {
    "t5": {
        "modules": [{"serial": {"width": 3}, "prefix": {"length": 2}, "lora": lora(2, 4, *OWN, "ffn_in")}] +
                   [{"serial": {"width": 2}, "prefix": {"length": 2}, "lora": lora(2, 4, *OWN, "ffn_in")}] +
                   [{"serial": {"width": 3}, "prefix": {"length": 2, "cross": True}, "lora": lora(2, 4, *CROSS, "ffn_in")}] * 2,
        "decoder": [{}, {}, {"prefix": {"length": 3, "cross": True}}, {"parallel": {"width": 3}, "prefix": {"length": 3, "cross": True}}],
        "shifted": [{"prefix": {"length": 2, "shifted": True}}] * 2 + [{"prefix": {"length": 2, "cross": True, "shifted": True}}] * 2,
        "houlsby": [{"houlsby": {"width": 4}}, {}, {}, {"houlsby": {"width": 3}}],
    },
    "t5-gated": {
        "modules": [{"parallel": {"width": 3}, "prefix": {"length": 2}, "lora": lora(3, 4, "key", "ffn_in", "ffn_out")}] +
                   [{"parallel": {"width": 2}, "prefix": {"length": 2, "cross": True},
                     "lora": lora(3, 4, "key", "cross_key", "ffn_in", "ffn_out")}] * 2,
    },
}
PEFT = {
    "t5": [{}, {"dora": lora(2, 4, "attention_output", "ffn_out")}, {"dora": lora(2, 3, "cross_output", "cross_key", "ffn_in")},
           {"dora": lora(2, 4, "query", "cross_query")}],
    "t5-gated": [{"lora": lora(2, 4, "attention_output", "ffn_out")}, {}, {"lora": lora(2, 3, "cross_output", "cross_value", "ffn_in")}],
}
IA3 = [{}, {"ia3": {"targets": ["key", "value", "ffn_out"]}}, {"ia3": {"targets": ["key", "value", "cross_key", "cross_value", "ffn_out"]}}, {}]

SELF, READ = "layer.0.SelfAttention.", "layer.1.EncDecAttention."
MODULES = {"query": SELF + "q", "key": SELF + "k", "value": SELF + "v", "attention_output": SELF + "o",
           "cross_query": READ + "q", "cross_key": READ + "k", "cross_value": READ + "v", "cross_output": READ + "o"}


def path(c, layer, target):
    """What transformers calls a matrix."""
    decoder = layer >= c.num_layers
    block = f"{'decoder' if decoder else 'encoder'}.block.{layer - c.num_layers * decoder}."
    ffn = f"layer.{2 if decoder else 1}.DenseReluDense."
    return block + {"ffn_in": ffn + ("wi_1" if c.is_gated_act else "wi"), "ffn_out": ffn + "wo"}.get(target, MODULES.get(target, ""))


def write(name, seed):
    kind, config, dtype = CHECKPOINTS[name]
    model, g = kind(config), torch.Generator().manual_seed(seed)
    for key, t in model.named_parameters():
        fill(t, g, 0.3 if t.dim() == 2 else 0.1)
        if key.endswith("layer_norm.weight"):
            with torch.no_grad():
                t.add_(1)
    model.to(dtype).save_pretrained(OUT / name)
    (OUT / name / "generation_config.json").unlink(missing_ok=True)
    (OUT / name / "model.safetensors").chmod(0o644)


def load(where, model_type="t5", kind=None, **changes):
    config, model = {"t5": (transformers.T5Config, transformers.T5Model), "mt5": (transformers.MT5Config, transformers.MT5Model)}[model_type]
    c = config.from_pretrained(OUT / where, dropout_rate=0.0, **changes)
    return (kind or model).from_pretrained(OUT / where, config=c, dtype=torch.float32)


def inputs(c, seed, lengths):
    made = batch(c.vocab_size, 0, seed, lengths, 1)
    ids = made["input_ids"]
    described = {"ids": ids.flatten().tolist(), "types": made["token_type_ids"].flatten().tolist(), "lengths": lengths}
    start = torch.full((len(lengths), 1), c.decoder_start_token_id)
    return {"input_ids": ids, "attention_mask": made["attention_mask"], "decoder_input_ids": torch.cat([start, ids[:, :-1]], 1)}, described


def hidden(where, changes, seed):
    model = load(where, **changes).eval()
    lengths = [5, 40, 1, 3]
    given, described = inputs(model.config, seed, lengths)
    with torch.no_grad():
        made = model(**given)
    flat = [torch.cat([h[i, :n] for i, n in enumerate(lengths)]) for h in (made.last_hidden_state, made.encoder_last_hidden_state)]
    return {"checkpoint": where, "config": changes} | described, *flat


def as_without_prefix(self, query_length, key_length, *arguments, original=T5Attention.compute_bias, **named):
    """The bias of distances between tokens alone."""
    bias = original(self, query_length, query_length, *arguments, **named)
    return torch.nn.functional.pad(bias, (key_length - query_length, 0))


def insert_adapters(model, layers):
    """Insert a plan that one adapter holds; returns our names of its parameters, with the part that is ours."""
    c, configs, names, whole = model.config, [], {}, lambda t: t
    adapters.init(model)
    kinds = {"serial": adapters.SeqBnConfig, "parallel": adapters.ParBnConfig, "houlsby": adapters.DoubleSeqBnConfig}
    for key in ("prefix", "lora", *kinds):
        have = [i for i, layer in enumerate(layers) if key in layer]
        out = [i for i in range(len(layers)) if i not in have]
        if have and key in kinds:
            configs.append(kinds[key](reduction_factor={str(i): c.d_model / (layers[i][key]["width"] + 0.5) for i in have}, leave_out=out))
        elif have and key == "prefix":
            configs.append(adapters.PrefixTuningConfig(flat=True, prefix_length=layers[have[0]][key]["length"], leave_out=out))
        elif have:
            t = layers[have[0]][key]["targets"]
            configs.append(adapters.LoRAConfig(
                r=layers[have[0]][key]["rank"], alpha=layers[have[0]][key]["alpha"], leave_out=out, selfattn_lora=True,
                attn_matrices=[x[0] for x in ("query", "key", "value") if x in t], intermediate_lora="ffn_in" in t, output_lora="ffn_out" in t))
    model.add_adapter("a", config=adapters.ConfigUnion(*configs))
    model.set_active_adapters("a")
    for module in model.modules():
        if isinstance(module, T5Attention) and "shifted" not in layers[-1].get("prefix", {}):
            module.compute_bias = as_without_prefix.__get__(module)
    p, width = dict(model.named_parameters()), c.num_heads * c.d_kv
    for i, layer in enumerate(layers):
        decoder = i >= c.num_layers
        ffn = f"layer.{2 if decoder else 1}."
        places = {"serial": {"": ffn}, "parallel": {"": ffn}, "houlsby": {"attention.": "layer.0.", "ffn.": ffn}}
        for key, where in places.items():
            for ours, place in where.items() if key in layer else ():
                for part, theirs in (("down", "adapter_down.0"), ("up", "adapter_up")):
                    for kind in ("weight", "bias"):
                        names[f"layers.{i}.{key}.{ours}{part}.{kind}"] = (p[f"{path(c, i, '')}{place}adapters.a.{theirs}.{kind}"], whole)
        if "prefix" in layer:
            prefixed = [k for k, other in enumerate(layers) if "prefix" in other and (k >= c.num_layers) == decoder]
            for ours, theirs in (("", "self_prefix" if decoder else "encoder_prefix"), ("cross_", "cross_prefix"))[:1 + decoder]:
                t = next(t for k, t in p.items() if k.endswith(f"prefix_tunings.a.{theirs}.control_trans"))
                for j, part in enumerate(("keys", "values")):
                    names[f"layers.{i}.prefix.{ours}{part}"] = (t, lambda t, j=j, at=prefixed.index(i), n=layer["prefix"]["length"], of=len(prefixed):
                                                                t.view(n, of, 2, width)[:, at, j])
        for target in layer["lora"]["targets"] if "lora" in layer else ():
            for part in "AB":
                names[f"layers.{i}.lora.{target}.{part.lower()}"] = (p[f"{path(c, i, target)}.loras.a.lora_{part}"], whole)
    return model, names


def insert_peft(model, layers):
    c, names, wrapped = model.config, {}, None
    for i, layer in enumerate(layers):
        for key, how in layer.items():
            modules = [path(c, i, t) for t in how["targets"]]
            if key == "ia3":
                config = peft.IA3Config(target_modules=modules, feedforward_modules=[m for m in modules if m.endswith("wo")])
            else:
                config = peft.LoraConfig(r=how["rank"], lora_alpha=how["alpha"], use_dora=key == "dora", target_modules=modules)
            if wrapped is None:
                wrapped = peft.get_peft_model(model, config, adapter_name=f"l{i}")
            else:
                wrapped.add_adapter(f"l{i}", config)
    wrapped.base_model.set_adapter([f"l{i}" for i, layer in enumerate(layers) if layer])
    p = dict(wrapped.named_parameters())
    for i, layer in enumerate(layers):
        for key, how in layer.items():
            for target in how["targets"]:
                module = f"base_model.model.{path(c, i, target)}"
                if key == "ia3":
                    names[f"layers.{i}.ia3.{target}"] = (p[f"{module}.ia3_l.l{i}"], lambda t: t.flatten())
                    continue
                for part in "AB":
                    names[f"layers.{i}.{key}.{target}.{part.lower()}"] = (p[f"{module}.lora_{part}.l{i}.weight"], lambda t: t)
                if key == "dora":
                    names[f"layers.{i}.dora.{target}.magnitude"] = (p[f"{module}.lora_magnitude_vector.l{i}.weight"], lambda t: t)
    return wrapped, names


def whole_backbone(model, layers):
    """Every weight."""
    c, p, names = model.config, dict(model.named_parameters()), {"embeddings.word_embeddings.weight": "shared.weight"}
    for stack, own in (("encoder", range(c.num_layers)), ("decoder", range(c.num_decoder_layers))):
        for i in own:
            at = i + c.num_layers * (stack == "decoder")
            ours, theirs, ffn = f"{stack}.layer.{i}.", f"{stack}.block.{i}.", f"layer.{2 if stack == 'decoder' else 1}."
            for name, cross, place in (("attention", "", "layer.0."), ("crossattention", "cross_", "layer.1."))[:1 + (stack == "decoder")]:
                for part in ("query", "key", "value"):
                    names[f"{ours}{name}.self.{part}.weight"] = path(c, at, cross + part) + ".weight"
                names[f"{ours}{name}.output.dense.weight"] = path(c, at, (cross or "attention_") + "output") + ".weight"
                names[f"{ours}{name}.LayerNorm.weight"] = f"{theirs}{place}layer_norm.weight"
            gated = {"gate": "wi_0", "up": "wi_1"} if c.is_gated_act else {"dense": "wi"}
            for part, matrix in gated.items():
                names[f"{ours}intermediate.{part}.weight"] = f"{theirs}{ffn}DenseReluDense.{matrix}.weight"
            names[f"{ours}output.dense.weight"] = f"{theirs}{ffn}DenseReluDense.wo.weight"
            names[f"{ours}intermediate.LayerNorm.weight"] = f"{theirs}{ffn}layer_norm.weight"
        names[f"{stack}.layer.0.attention.self.relative_attention_bias.weight"] = f"{stack}.block.0.{SELF}relative_attention_bias.weight"
        names[f"{stack}.LayerNorm.weight"] = f"{stack}.final_layer_norm.weight"
    return model, {f"backbone.{ours}": (p[theirs], lambda t: t) for ours, theirs in names.items()}


INSERT = {"adapters": insert_adapters, "peft": insert_peft, "backbone": whole_backbone}


def case(name, where, library, version, layers, seed):
    """The gradients of one step; the head is that of T5ForSequenceClassification, which reads the last token of each row."""
    model = load(where)
    d = model.config.d_model
    model, names = INSERT[library](model, layers)
    for t in model.parameters():
        t.requires_grad_(False)
    for key, shape in (("dense.weight", (d, d)), ("dense.bias", (d,)), ("weight", (3, d)), ("bias", (3,))):
        names[f"head.{key}"] = (torch.nn.Parameter(torch.empty(shape)), lambda t: t)
    g = torch.Generator().manual_seed(seed)
    for k, t in {id(t): (k, t) for k, (t, _) in names.items()}.values():
        t.requires_grad_(True)
        if not k.endswith("magnitude") and not k.startswith("backbone."):
            fill(t, g, 0.2 if t.dim() == 2 else 0.3)
    lengths, labels = [7, 11, 1, 4], [1, 0, 2, 1]
    given, described = inputs(model.config, seed, lengths)
    h = model(**given).last_hidden_state[torch.arange(4), torch.tensor(lengths) - 1]
    head = {k: t for k, (t, _) in names.items()}
    logits = torch.tanh(h @ head["head.dense.weight"].T + head["head.dense.bias"]) @ head["head.weight"].T + head["head.bias"]
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    file = {f"value.{k}": cut(t.detach()).clone().contiguous() for k, (t, cut) in names.items() if not k.startswith("backbone.")}
    file |= {f"grad.{k}": cut(t.grad).clone().contiguous() for k, (t, cut) in names.items()}
    safetensors.torch.save_file(file, OUT / f"{name}.safetensors")
    return {"name": name, "checkpoint": where, "plan": {"version": version, "layers": layers}, "head": "dense", "outputs": 3,
            "backbone": library == "backbone"} | described | {
        "labels": [float(x) for x in labels], "logits": logits.flatten().tolist()}


def check_class():
    """Texts end in an end token, whose state transformers' class reads: the last one of each row."""
    model = load("t5-gated", kind=transformers.T5ForSequenceClassification).eval()
    lengths = [7, 11, 4]
    given, _ = inputs(model.config, 1, lengths)
    ids, end = given["input_ids"], torch.tensor(lengths) - 1
    ids[ids == 1] = 2
    ids[torch.arange(3), end] = 1
    with torch.no_grad():
        want = model(input_ids=ids, attention_mask=given["attention_mask"]).logits
        start = torch.full((3, 1), model.config.decoder_start_token_id)
        h = model.transformer(input_ids=ids, attention_mask=given["attention_mask"],
                              decoder_input_ids=torch.cat([start, ids[:, :-1]], 1)).last_hidden_state[torch.arange(3), end]
        torch.testing.assert_close(model.classification_head(h), want)


def main():
    torch.set_num_threads(1)
    for i, name in enumerate(CHECKPOINTS):
        write(name, 250 + i)
    check_class()
    states = [hidden(where, changes, 260 + i) for i, (where, changes) in enumerate(HIDDEN)]
    safetensors.torch.save_file({f"{kind}.{i}": h.contiguous() for i, (_, *both) in enumerate(states)
                                 for kind, h in zip(("hidden", "encoder"), both)}, OUT / "t5-hidden.safetensors")
    plans = [(where, name, "adapters", 2, plan) for where, made in PLANS.items() for name, plan in made.items()]
    plans += [(where, "peft", "peft", 2, plan) for where, plan in PEFT.items()] + [("t5", "ia3", "peft", 2, IA3)]
    plans += [(where, "full", "backbone", 1, [{}] * n) for where, n in (("t5", 4), ("t5-gated", 3))]
    cases = [case(f"{where}-{name}", where, library, version, plan, 280 + i) for i, (where, name, library, version, plan) in enumerate(plans)]
    distances = torch.arange(-1200, 1201)
    buckets = [{"buckets": n, "most": most, "causal": causal, "want": T5Attention._relative_position_bucket(
        distances, bidirectional=not causal, num_buckets=n, max_distance=most).tolist()} for n, most in BUCKETS for causal in (False, True)]
    golden = {"hidden": [c for c, *_ in states], "cases": cases, "buckets": buckets}
    text = json.dumps(golden, indent=None, separators=(",", ":"))
    (OUT / "t5.json").write_text(text.replace('{"name"', '\n{"name"').replace('{"buckets"', '\n{"buckets"') + "\n")


if __name__ == "__main__":
    main()
