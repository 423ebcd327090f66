#!/usr/bin/env python3
"""Write data/metric/testdata/text.json: what sacreBLEU and rouge-score say of texts.

Made with Python 3.11, sacrebleu 2.6.0 and rouge-score 0.1.2. Run it in the repository root with python -P, since
statistics.py beside it would hide that of the standard library. The English sentences are
pairs of STS-B's dev split, of which one is taken for the translation of the other.
"""
import csv
import json
import pathlib
import random

from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

SLOVENE = [
    "Čebela leti od cveta do cveta.", "V Ljubljani že tri dni dežuje, jutri pa bo sonce.", "Koliko stane kilogram češenj?",
    "Žaba je skočila v mlako in izginila.", "Šola se začne ob osmih, pouk pa traja do dveh.", "\"Pridi kmalu!\" je zaklicala mama.",
    "Leta 1991 je imela država 1.999.404 prebivalcev (2,1 % manj).", "Če bi vedel, bi prišel – a nisem vedel.",
    "Otroci so v gozdu nabrali dve košari gob.", "Naš pes je star trinajst let in še vedno rad teče.",
]
KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def scores(hyp, one, two):
    metrics = {"bleu": BLEU(), "chrf": CHRF(), "chrf++": CHRF(word_order=2)}
    return {name: {"corpus": m.corpus_score(hyp, [one]).score, "corpus_two_references": m.corpus_score(hyp, [one, two]).score,
                   "sentence": [m.sentence_score(h, [r]).score for h, r in zip(hyp, one)] if name != "bleu" else []}
            for name, m in metrics.items()}


def language(hyp, one, two):
    rouge = rouge_scorer.RougeScorer(KINDS)
    of = lambda reference, text: {k: list(v) for k, v in rouge.score(reference, text).items()}
    join = lambda lines, i: "\n".join(lines[i:i + 4])
    documents = [(join(one, i), join(hyp, i)) for i in range(0, len(hyp) - 3, 4)]
    tokens = Tokenizer13a()
    return {"hyp": hyp, "ref": one, "ref2": two, "tokens_13a": [tokens(x) for x in one + hyp],
            "rouge": [of(r, h) for r, h in zip(one, hyp)], "docs": documents, "docs_rouge": [of(r, h) for r, h in documents]} | scores(hyp, one, two)


def main():
    with open("examples/data/stsb/dev.tsv", newline="", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)][:1500:25]
    rng = random.Random(3)

    def changed(sentence):
        words = sentence.split()
        for _ in range(max(1, len(words) // 4)):
            words.insert(rng.randrange(len(words)), words.pop(rng.randrange(len(words))))
        return " ".join(words[rng.randrange(2):])

    first, second = [r["sentence1"] for r in rows], [r["sentence2"] for r in rows]
    golden = {"en": language(first, second, [changed(s) for s in second]),
              "sl": language([changed(s) for s in SLOVENE], SLOVENE, [changed(s) for s in SLOVENE])}
    pathlib.Path("data/metric/testdata/text.json").write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
