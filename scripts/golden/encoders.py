#!/usr/bin/env python3
"""Write evaluator/model/testdata/encoders*: what the reference libraries compute for the types of BERT's family.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2, safetensors 0.8.0. Run it
in the repository root, after model.py.

The checkpoints are small, random, and written as their users write them: under the prefix of a model with a head, in
half precision, in shards.
"""
import json

import safetensors.torch
import torch
import transformers

from model import BOTTLENECK, OUT, PREFIX, batch, case, fill, load, lora

SIZES = dict(vocab_size=40, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=48, max_position_embeddings=18)
CHECKPOINTS = {  # name: class, configuration, how it is saved
    "xlm-roberta": (transformers.XLMRobertaModel, transformers.XLMRobertaConfig(**SIZES, type_vocab_size=1, layer_norm_eps=1e-5), {}),
    "camembert": (transformers.CamembertForMaskedLM, transformers.CamembertConfig(**SIZES, type_vocab_size=1, hidden_act="gelu_new"), {}),
    "distilbert": (transformers.DistilBertForSequenceClassification, transformers.DistilBertConfig(
        vocab_size=40, dim=32, n_heads=4, n_layers=2, hidden_dim=48, max_position_embeddings=18), {"dtype": torch.float16}),
    "electra": (transformers.ElectraForSequenceClassification, transformers.ElectraConfig(**SIZES, embedding_size=24),
                {"dtype": torch.bfloat16, "max_shard_size": "20KB"}),
}
CASES = [  # as in model.py
    ("xlm-roberta", "xlm-roberta", "adapters", "linear", 2,
     [{"parallel": BOTTLENECK(4), "lora": lora(3, 6, "query", "value")}, {"serial": BOTTLENECK(4), "prefix": PREFIX(3)}]),
    ("camembert", "camembert", "peft", "dense", 3,
     [{"lora": lora(2, 3, "query", "key", "value", "attention_output", "ffn_in", "ffn_out")}, {"lora": lora(1, 1, "ffn_in", "query")}]),
    ("distilbert", "distilbert", "adapters", "dense", 3,
     [{"serial": BOTTLENECK(3), "parallel": BOTTLENECK(6), "prefix": PREFIX(2), "lora": lora(2, 4, "query", "value")},
      {"serial": BOTTLENECK(8), "prefix": PREFIX(5), "lora": lora(5, 5, "ffn_in", "ffn_out")}]),
    ("distilbert-lora", "distilbert", "peft", "linear", 1,
     [{"lora": lora(2, 3, "query", "key", "value", "attention_output", "ffn_in", "ffn_out")}, {}]),
    ("electra", "electra", "adapters", "linear", 2,
     [{"serial": BOTTLENECK(3), "prefix": PREFIX(2)}, {"parallel": BOTTLENECK(6), "lora": lora(2, 4, "key", "ffn_in")}]),
    ("electra-full", "electra", "backbone", "linear", 2, [{}, {}]),
]
HIDDEN = [  # checkpoint, changes of its configuration
    ("xlm-roberta", {}), ("xlm-roberta", {"pad_token_id": 5}), ("camembert", {}), ("distilbert", {}), ("distilbert", {"activation": "relu"}),
    ("electra", {}), ("electra", {"hidden_act": "gelu_fast"}), ("bert", {"hidden_act": "gelu_new"}),
    ("bert", {"hidden_act": "gelu_pytorch_tanh"}), ("bert", {"hidden_act": "gelu_python"}), ("bert", {"hidden_act": "relu"}), ("bert", {"hidden_act": "silu"}),
    ("bert", {"hidden_act": "swish"}), ("bert", {"layer_norm_eps": 0.1}),
]


def write(name, seed):
    kind, config, saved = CHECKPOINTS[name]
    model, g = kind(config), torch.Generator().manual_seed(seed)
    for key, t in model.named_parameters():
        fill(t, g, 0.3 if t.dim() == 2 else 0.1)
        if "norm.weight" in key.lower():
            with torch.no_grad():
                t.add_(1)
    model.to(saved.pop("dtype", torch.float32)).save_pretrained(OUT / name, **saved)
    (OUT / name / "generation_config.json").unlink(missing_ok=True)


def hidden(where, changes, seed):
    model = load(str(OUT / where), **changes).eval()
    c = model.config
    inputs = batch(c.vocab_size, c.pad_token_id, seed, [5, 12, 1, 3], getattr(c, "type_vocab_size", 1))
    if changes.get("pad_token_id") is not None:  # a padding token in the text
        inputs["input_ids"][1, 4] = c.pad_token_id
    given = {k: v for k, v in inputs.items() if k != "token_type_ids" or c.model_type != "distilbert"}
    with torch.no_grad():
        h = model(**given).last_hidden_state
    lengths = inputs["attention_mask"].sum(1).tolist()
    case = {"checkpoint": where, "config": changes, "ids": inputs["input_ids"].flatten().tolist(),
            "types": inputs["token_type_ids"].flatten().tolist(), "lengths": lengths}
    return case, torch.cat([h[i, :n] for i, n in enumerate(lengths)])  # [tokens, D]


def main():
    torch.set_num_threads(1)
    for i, name in enumerate(CHECKPOINTS):
        write(name, 50 + i)
    states = [hidden(where, changes, 60 + i) for i, (where, changes) in enumerate(HIDDEN)]
    safetensors.torch.save_file({f"hidden.{i}": h.contiguous() for i, (_, h) in enumerate(states)}, OUT / "encoders.safetensors")
    golden = {"hidden": [c for c, _ in states], "cases": [case(*c, seed=80 + i) for i, c in enumerate(CASES)]}
    (OUT / "encoders.json").write_text(json.dumps(golden, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
