#!/usr/bin/env python3
"""Measure Hugging Face tokenizers on the rows of BenchmarkEncode in data/tokenizer, on one thread.

Run it in the repository root with model directories as arguments: it prints tokens per second of processor time, the
best of five. `go test ./data/tokenizer -run - -bench Encode -cpu 1` measures ours.
"""

import os
import pathlib
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import transformers


def rows():
    lines = pathlib.Path("examples/data/stsb/train.tsv").read_text(encoding="utf-8").split("\n")
    return [tuple(line.split("\t")[1:3]) for line in lines if line]


for directory in sys.argv[1:]:
    backend = transformers.AutoTokenizer.from_pretrained(directory).backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(128)
    best = 0
    for _ in range(5):
        start = time.process_time()
        tokens = sum(len(e.ids) for e in backend.encode_batch_fast(rows()))
        best = max(best, tokens / (time.process_time() - start))
    print(f"{directory}: {tokens} tokens, {best:,.0f} tokens/s")
