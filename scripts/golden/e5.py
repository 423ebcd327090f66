#!/usr/bin/env python3
"""Write evaluator/model/testdata/e5.*: what transformers computes with multilingual-e5-small for ten sentences.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, tokenizers 0.22.2, safetensors 0.8.0. Run it in the
repository root after `make models/multilingual-e5-small`.
"""
import json
import pathlib

import safetensors.torch
import torch
import transformers

OUT, MODEL = pathlib.Path("evaluator/model/testdata"), "models/multilingual-e5-small"
SENTENCES = [  # Slovene, English
    ("Čez reko vodi star kamnit most.", "An old stone bridge leads across the river."),
    ("Otroci so včeraj v šoli risali živali.", "The children drew animals at school yesterday."),
    ("Vlada je znižala davek na zdravila.", "The government lowered the tax on medicines."),
    ("Jutri bo v gorah snežilo.", "It will snow in the mountains tomorrow."),
    ("Vlak iz Maribora ima pol ure zamude.", "The train from Maribor is half an hour late."),
    ("Njena babica peče najboljši jabolčni zavitek.", "Her grandmother bakes the best apple strudel."),
    ("Raziskovalci so odkrili novo vrsto žuželk.", "Researchers have discovered a new species of insects."),
    ("Naša ekipa je izgubila tekmo s 3 : 1.", "Our team lost the match 3 to 1."),
    ("Zdravnik mu je svetoval, naj preneha kaditi.", "The doctor advised him to stop smoking."),
    ("Kje lahko kupim vstopnice za koncert?", "Where can I buy tickets for the concert?"),
]


def main():
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    model = transformers.AutoModel.from_pretrained(MODEL, add_pooling_layer=False, attn_implementation="eager").eval()
    golden, states = [], []
    for slovene, english in SENTENCES:
        texts = ["query: " + slovene, "query: " + english]
        encoded = tokenizer(texts)["input_ids"]
        golden.append({"texts": texts, "ids": encoded})
        with torch.no_grad():
            states.append(model(input_ids=torch.tensor([encoded[0]])).last_hidden_state[0])
    safetensors.torch.save_file({"hidden": torch.cat(states)}, OUT / "e5.safetensors")
    (OUT / "e5.json").write_text(json.dumps(golden, ensure_ascii=False, indent=None).replace('{"texts"', '\n{"texts"') + "\n")


if __name__ == "__main__":
    main()
