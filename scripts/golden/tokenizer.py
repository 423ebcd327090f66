#!/usr/bin/env python3
"""Write data/tokenizer/testdata: what the reference tokenizers answer.

Made with Python 3.11, transformers 4.57.6, tokenizers 0.22.2, sentencepiece 0.2.3. Run it in the repository root after
`make models/all-MiniLM-L6-v2`.
"""
import base64
import gzip
import io
import json
import pathlib
import random
import tempfile

import sentencepiece
import tokenizers
import tokenizers.normalizers
import tokenizers.pre_tokenizers
import transformers

OUT = pathlib.Path("data/tokenizer/testdata")

ADVERSARIAL = [
    "[CLS] in [SEP] the text [MASK] <mask> </s> <s>", "a" * 300, "a" * 100, "a" * 101, "1234567890" * 12, "α" * 80,
    "e\u0301" * 60, "z" + "\u0300" * 20 + "algo", "café Ünïcode naïve", "İstanbul ß ﬁ ﬂ ΣΑΣ", "１２３ ＡＢＣ ｱ",
    "👩\u200d👩\u200d👧 🤣🫠", "ok\u200bzero\u00adsoft\u2028line\u2029para", "\u0e01" * 60,
    "ภาษาไทยไม่มีช่องว่างระหว่างคำจึงยาวมากกว่าร้อยไบต์เสมอ", "漢字かな交じり文、テスト。", "한국어 문장",
    "don't I'll they've 's 'S it's'm we'd", " leading", "trailing  ", "a  b   c\n\n d\t e", " 's  't", "x\u00a0y\u3000z",
    "http://a.b/c?d=e&f=%20g", "\x00\x07nul\x1b", "\ufffd replaced", "!!!???...", "\u0378\u0379 unassigned \U0001fae8",
    "\ue000 private", ";\u037e", "!", "\U0002b820\U0002b81f 豈", "$+<=>^`|~", "«»„“”‚’—–…",
    "next\u0085line\u000bvt\u000cff", "\u180e\ufeff\u2060marks",
    "ooo xooo wsssss ooooo qggg", "한" * 33, "한" * 40, "ที่" * 60, "漢" * 120, "É" * 60, "É" * 101,
]
SLOVENE = [
    "Čeprav je deževalo, so šli na Šmarno goro.", "Žival se je skrila pod košat hrast ob reki Dragonji.",
    "Ali lahko naročim dve kavi z mlekom, prosim?", "Knjižnica je odprta od 8. do 19. ure, ob sobotah do 13.",
    "Njegova teta živi v Škofji Loki že petnajst let.", "»Pridi jutri,« je rekla, »pa bova govorila o tem.«",
]
BLOCKS = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x6FF), (0x900, 0x97F),
          (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x20A0, 0x214F), (0x3040, 0x30FF), (0x4E00, 0x4EFF), (0xAC00, 0xACFF),
          (0xFF00, 0xFFEF), (0x1F300, 0x1F6FF), (0x20, 0x20), (0x00, 0x1F)]
# Punctuation that is younger than the Unicode tables of the tokenizers library.
YOUNG = {0x61D}


def random_text(rng):
    blocks = rng.choice([BLOCKS, BLOCKS[:2], BLOCKS[:1]])
    points = (rng.randint(*rng.choice(blocks)) for _ in range(rng.randint(1, 30)))
    return "".join(chr(p) for p in points if p not in YOUNG) or "x"


def texts():
    rng = random.Random(1)
    rows = [(a, "") for a in ADVERSARIAL] + list(zip(ADVERSARIAL, ADVERSARIAL[1:]))
    rows += [(a, "") for a in SLOVENE] + list(zip(SLOVENE, SLOVENE[1:]))
    rows += [(random_text(rng), random_text(rng) if i % 3 == 0 else "") for i in range(900)]
    return [(a, b, rng.choice([512, 512, 512, 17, 8, 5])) for a, b in rows]


def stsb():
    lines = pathlib.Path("examples/data/stsb/dev.tsv").read_text(encoding="utf-8").split("\n")[1:301]
    return [(*line.split("\t")[1:3], 64) for line in lines]


def encodings(tokenizer, name, made=None, real=None):
    """One line per row; the text is left out where the test reads it from the example data."""
    with open(OUT / name, "w", encoding="utf-8") as f:
        for rows, shown in [(texts()[:made], True), (stsb()[:real], False)]:
            for a, b, length in rows:
                e = tokenizer(a, b or None, truncation="longest_first", max_length=length, return_token_type_ids=True)
                row = {"text": a, "pair": b} if shown else {}
                ids, types = e["input_ids"], e["token_type_ids"]
                json.dump({**row, "max": length, "ids": ids, "second": types.index(1) if 1 in types else 0}, f,
                          separators=(",", ":"))
                f.write("\n")


def wordpiece():
    encodings(transformers.BertTokenizerFast.from_pretrained("models/all-MiniLM-L6-v2"), "wordpiece.jsonl")
    cased = transformers.BertTokenizerFast("models/all-MiniLM-L6-v2/vocab.txt", do_lower_case=False,
                                           tokenize_chinese_chars=False)
    encodings(cased, "wordpiece_cased.jsonl", made=250, real=50)


def byte_pairs():
    """A small vocabulary learned from the example data, in RoBERTa's layout."""
    target = OUT / "bytepairs"
    target.mkdir(exist_ok=True)
    bpe = tokenizers.ByteLevelBPETokenizer()
    corpus = [text for a, b, _ in stsb() for text in (a, b)] + SLOVENE
    bpe.train_from_iterator(corpus, vocab_size=700, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
                            show_progress=False)
    bpe.save_model(str(target))
    tokenizer = transformers.RobertaTokenizerFast(str(target / "vocab.json"), str(target / "merges.txt"))
    tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"), pretty=False)
    config = transformers.RobertaConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1,
                                        num_attention_heads=2, intermediate_size=16, max_position_embeddings=66,
                                        type_vocab_size=1)
    (target / "config.json").write_text(config.to_json_string(use_diff=False))
    encodings(tokenizer, "bytepairs.jsonl")


def word_vocabulary():
    """A small vocabulary of BERT's kind: characters, some words of both cases, and [unused] places."""
    words = "the The film Film was very good and naive naïve apple Apple one two short long text of many words caša Čaša casa žaba 中 foo Foo FOO don t".split()
    characters = sorted(set("".join(words) + "".join(map(chr, range(33, 127))) + "éčšžåß中文ﬁ１２Ａ"))
    tokens = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + characters
    tokens += ["##" + c for c in characters if c.isalnum()] + [w for w in words if len(w) > 1] + ["##ing", "##s", "##oo", "##film"]
    target = OUT / "wordpiece"
    target.mkdir(exist_ok=True)
    (target / "vocab.txt").write_text("".join(t + "\n" for t in tokens), encoding="utf-8")


def pieces():
    """Small SentencePiece models: Unigram as T5 has it, Unigram and BPE as fairseq has them."""
    corpus = OUT / "corpus.txt"
    lines = [text for a, b, _ in stsb() for text in (a, b)] + SLOVENE * 5 + ADVERSARIAL
    corpus.write_text("\n".join(line.replace("\n", " ") for line in lines if "\x00" not in line), encoding="utf-8")
    common = dict(input=str(corpus), num_threads=1, minloglevel=2, character_coverage=0.9995, hard_vocab_limit=False)
    t5 = dict(vocab_size=600, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_name="nmt_nfkc")
    fairseq = dict(vocab_size=500, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, normalization_rule_name="identity",
                   control_symbols=["<ctl>"], user_defined_symbols=["<usr>"])
    for name, file, options in [("t5", "spiece.model", t5), ("fairseq", "sentencepiece.bpe.model", {**fairseq, "model_type": "unigram"}),
                                ("fairseq-bpe", "sentencepiece.bpe.model", {**fairseq, "model_type": "bpe"})]:
        target = OUT / name
        target.mkdir(exist_ok=True)
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(model_writer=model, **common, **options)
        (target / (file + ".gz")).write_bytes(gzip.compress(model.getvalue(), mtime=0))
    corpus.unlink()


def strings():
    """Ids of hostile and random strings by the small vocabularies, without special tokens."""
    texts = json.loads(gzip.decompress((OUT / "strings.json.gz").read_bytes()))
    ids = {}
    for name, base, kind in [("wordpiece", "wordpiece", "bert"), ("gpt2", "bytepairs", "gpt2"), ("t5", "t5", "t5"),
                             ("xlm-roberta", "fairseq", "xlm-roberta"), ("camembert", "fairseq-bpe", "camembert")]:
        with tempfile.TemporaryDirectory() as directory:
            for file in (OUT / base).iterdir():
                content = file.read_bytes()
                if file.name != "tokenizer.json":
                    (pathlib.Path(directory) / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(content) if file.suffix == ".gz" else content)
            (pathlib.Path(directory) / "config.json").write_text(json.dumps({"model_type": kind}))
            tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
        ids[name] = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        if name == "t5":  # transformers 5 makes another tokenizer of the same file
            charsmap = json.loads(tokenizer.backend_tokenizer.to_str())["normalizer"]["normalizers"][0]["precompiled_charsmap"]
            tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Precompiled(base64.b64decode(charsmap))
            tokenizer.backend_tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
                tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always", split=True)])
            ids["t5 of transformers 5"] = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    (OUT / "strings_ids.json.gz").write_bytes(gzip.compress(json.dumps(ids, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    wordpiece()
    byte_pairs()
    word_vocabulary()
    pieces()
    strings()
