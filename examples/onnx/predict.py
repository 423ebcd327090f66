"""Labels lines of text with a model that peftsearch exported: python predict.py DIRECTORY < TEXTS

A line is a text, or two texts with a tab between them. It needs onnxruntime and tokenizers, and no PyTorch.
"""
import json
import pathlib
import sys

import numpy
import onnxruntime
import tokenizers

directory = pathlib.Path(sys.argv[1])
config = json.loads((directory / "config.json").read_text())
settings = json.loads((directory / "tokenizer_config.json").read_text())
tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
tokenizer.enable_truncation(settings["model_max_length"])
tokenizer.enable_padding(pad_id=config.get("pad_token_id", 0))
session = onnxruntime.InferenceSession(directory / "onnx" / "model.onnx")
taken = [i.name for i in session.get_inputs()]

lines = sys.stdin.read().splitlines()
for start in range(0, len(lines), 32):
    batch = lines[start:start + 32]
    rows = tokenizer.encode_batch([tuple(line.split("\t", 1)) if "\t" in line else line for line in batch])
    inputs = {"input_ids": [r.ids for r in rows], "attention_mask": [r.attention_mask for r in rows],
              "token_type_ids": [r.type_ids for r in rows]}
    logits = session.run(["logits"], {k: numpy.array(inputs[k], dtype=numpy.int64) for k in taken})[0]
    for line, row in zip(batch, logits):
        said = f"{row[0]:.4g}" if config["problem_type"] == "regression" else config["id2label"][str(row.argmax())]
        print(said, line)
