#!/usr/bin/env python3
"""Write a GPT-2 that sorts six of three symbols as a Hugging Face directory, from the JSON that it is published as (MIT).

    python3 scripts/nano_sort.py gpt-nano-sort-model.json evaluator/train/testdata/nano-sort

Its matrices are [out, in] there and [in, out] in GPT-2's files; what it writes has a matrix of its own. A token is a
symbol: 0, 1 or 2.
"""
import base64
import json
import pathlib
import struct
import sys

TURNED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def main():
    source, out = map(pathlib.Path, sys.argv[1:])
    model = json.loads(source.read_text())
    c = model.pop("config")
    out.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": c["vocab_size"], "n_embd": c["n_embd"],
              "n_layer": c["n_layer"], "n_head": c["n_head"], "n_positions": c["block_size"], "tie_word_embeddings": False,
              "activation_function": "gelu_new", "bos_token_id": None, "eos_token_id": None}
    symbols = [str(i) for i in range(c["vocab_size"])]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                 "post_processor": None, "decoder": byte_level,
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                           "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {s: i for i, s in enumerate(symbols)}, "merges": []}}
    for name, value in {"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}}.items():
        (out / name).write_text(json.dumps(value, indent=2) + "\n")
    header, data = {}, b""
    for name, t in sorted(model.items()):
        if name.endswith(".attn.bias"):  # the causal mask
            continue
        shape, values = t["shape"], base64.b64decode(t["data"])
        if name.endswith(TURNED):
            rows, columns = shape
            flat = struct.unpack(f"<{rows * columns}f", values)
            values = struct.pack(f"<{rows * columns}f", *(flat[r * columns + k] for k in range(columns) for r in range(rows)))
            shape = [columns, rows]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    head = json.dumps({"__metadata__": {"format": "pt"}} | header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    (out / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    (out / "LICENSE").write_bytes((source.parent / "LICENSE").read_bytes())


if __name__ == "__main__":
    main()
