#!/usr/bin/env python3
"""Write data/tokenizer/testdata/settings.jsonl.gz: what transformers makes of model directories.

Made with Python 3.11, transformers 4.57.6, tokenizers 0.22.2, sentencepiece 0.2.3. Run it in the repository root after
scripts/golden/tokenizer.py. With a number it writes so many random directories and no others, to the file named second.

The first line defines what stands for long parts of files. Every other one is a directory: the vocabulary that it
starts from, the files that are written over it, and the rows that AutoTokenizer makes of them, or that it fails.
"""
import base64
import copy
import gzip
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import transformers
from sentencepiece import sentencepiece_model_pb2

TESTDATA = pathlib.Path("data/tokenizer/testdata")
BASES = {  # files of a vocabulary
    "wordpiece": ["vocab.txt"], "bytepairs": ["vocab.json", "merges.txt"], "t5": ["spiece.model"],
    "fairseq": ["sentencepiece.bpe.model"], "fairseq-bpe": ["sentencepiece.bpe.model"], "empty": [],
}
ROWS = [  # one or two texts, or words, and the greatest length
    (["The film was very good, naïve Čaša žaba é Apple"], 64), (["中文 film ＡＢＣ ﬁ １２"], 64), ([" two  blanks\tand\n "], 64),
    (["[CLS] a [MASK] <mask> x<mask>y </s> [SEP] <pad>[PAD] <s>"], 64), (["[mask] Foo foo FOOfoo foo. FOO"], 64),
    (["a newtok b NEWTOK newtok-c  newtok  d xnewtoky newtok"], 64), (["<extra_id_0> and <extra_id_3>."], 64),
    (["don't I'll they've 's it's"], 64), (["e\u0301 Å ŉ İstanbul ǅ \u200bx\u00ady \x00z \ufffd"], 64), (["<|endoftext|> text <|endoftext|>"], 64),
    (["one short text", "and another text that is longer"], 64), (["one rather long text of many words", "short"], 12),
    (["one rather long text of many words", "another one of some more words"], 13), (["a b c d e f g h i j k l"], 8), ([""], 8),
    (["  lead", " lead"], 64), (["x" * 101 + " y"], 64), (["▁a▁ b"], 64), (["<ctl> é <usr>é <USR>"], 64),
]
WORDS = [["The", "film", ",", "naïve", "Čaša"], [" a", "b c", "", "<mask>", "\u200b", "don't"], ["newtok", "xnewtok"]]


class Parts(dict):
    """What stands for long parts of files, and the parts. "@charsmap@" is the normalisation of spiece.model."""

    def define(self, name, document):
        self.setdefault(f'"@{name}@"', json.dumps(document, ensure_ascii=False))

    def shorten(self, content):
        for name, part in self.items():
            content = content.replace(part, name)
        return content

    def resolve(self, content):
        for name, part in self.items():
            content = content.replace(name, part)
        if "@charsmap@" in content:
            model = sentencepiece_model_pb2.ModelProto()
            model.ParseFromString(gzip.decompress((TESTDATA / "t5" / "spiece.model.gz").read_bytes()))
            content = content.replace("@charsmap@", base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode())
        return content


PARTS = Parts()


def write(base, files, directory):
    for name in BASES[base]:
        packed = TESTDATA / base / (name + ".gz")
        if packed.exists():
            (directory / name).write_bytes(gzip.decompress(packed.read_bytes()))
        else:
            shutil.copy(TESTDATA / base / name, directory / name)
    for name, content in files.items():
        if content is None:
            (directory / name).unlink()
        else:
            (directory / name).write_text(PARTS.resolve(content), newline="")


def load(base, files):
    with tempfile.TemporaryDirectory() as name:
        write(base, files, pathlib.Path(name))
        return transformers.AutoTokenizer.from_pretrained(name)


def row(encoding, max_length, full, **texts):
    ids = encoding["input_ids"]
    types = encoding.get("token_type_ids") or [0] * len(ids)
    r = {**texts, "max": max_length, "ids": ids}
    if any(types):
        r["types"] = types
    if full:
        r["offsets"] = [n for pair in encoding["offset_mapping"] for n in pair]
        r["words_of"] = [-1 if w is None else w for w in encoding.word_ids(0)]
    return r


def case(base, files, full=False, note=None):
    """Run transformers on a directory. full: with offsets, words and decoded texts."""
    files = {"config.json": json.dumps({"model_type": "bert", "vocab_size": 5000}), **files}
    c = {"base": base, "files": {name: PARTS.shorten(content) for name, content in files.items()}}
    if note:
        c["note"] = note
    try:
        tokenizer = load(base, files)
        if not tokenizer.is_fast:
            raise ValueError("no fast tokenizer")
        rows = []
        for texts, max_length in ROWS:
            e = tokenizer(*texts, truncation="longest_first", max_length=max_length, return_offsets_mapping=full)
            rows.append(row(e, max_length, full, texts=texts))
            if full:
                rows[-1]["decoded"] = [tokenizer.decode(e["input_ids"]), tokenizer.decode(e["input_ids"], skip_special_tokens=True)]
        words = tokenizer
        splitter = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] or {}
        if "ByteLevel" in json.dumps(splitter) and not tokenizer.add_prefix_space:  # transformers asks for it
            config = json.loads(files.get("tokenizer_config.json", "{}"))
            words = load(base, {**files, "tokenizer_config.json": json.dumps({**config, "add_prefix_space": True})})
        for texts in WORDS:
            e = words(texts, is_split_into_words=True, truncation="longest_first", max_length=10, return_offsets_mapping=full)
            rows.append(row(e, 10, full, words=texts))
        c["rows"] = rows
        c["special"] = [-1 if t is None else t for t in (
            tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.sep_token_id,
            tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.mask_token_id)]
    except Exception as e:
        c["error"] = f"{type(e).__name__}: {e}"[:120]
    return c


def backend(base, files):
    """The tokenizer.json that transformers makes of older files, as a dictionary."""
    d = json.loads(load(base, files).backend_tokenizer.to_str())

    def shorten(node):
        if isinstance(node, dict):
            if "precompiled_charsmap" in node:
                node["precompiled_charsmap"] = "@charsmap@"
            for value in node.values():
                shorten(value)
        elif isinstance(node, list):
            for value in node:
                if isinstance(value, (dict, list)):
                    shorten(value)
    shorten(d)
    kind = json.loads(files["config.json"])["model_type"]
    PARTS.define(f"{base} {kind} vocab", d["model"]["vocab"])
    if "merges" in d["model"]:
        PARTS.define(f"{base} {kind} merges", d["model"]["merges"])
    return d


def config(model_type, **more):
    return json.dumps({"model_type": model_type, "vocab_size": 5000, **more})


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": False, **flags}


def named(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


UNSET = object()


def setting(**values):
    return {"tokenizer_config.json": json.dumps({k: v for k, v in values.items() if v is not UNSET})}


def bert_cases(full_json, cased_json):
    for source in ({}, {"tokenizer.json": full_json}, {"tokenizer.json": cased_json}):
        for lower in (UNSET, True, False):
            for strip in (UNSET, None, True, False):
                for chinese in (UNSET, True, False):
                    yield case("wordpiece", {**source, **setting(do_lower_case=lower, strip_accents=strip, tokenize_chinese_chars=chinese)})
        yield case("wordpiece", source, full=True)


class Directories:
    """Random directories, from the parts that people have in theirs."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        bert, roberta = config("bert"), config("roberta")
        vocabulary = json.loads((TESTDATA / "bytepairs" / "vocab.json").read_text())
        self.gpt2_vocabulary = json.dumps({**vocabulary, "<|endoftext|>": len(vocabulary)}, ensure_ascii=False)
        self.json = {
            "bert": backend("wordpiece", {"config.json": bert}),
            "roberta": backend("bytepairs", {"config.json": roberta}),
            "gpt2": backend("bytepairs", {"config.json": config("gpt2"), "vocab.json": self.gpt2_vocabulary}),
            "t5": backend("t5", {"config.json": config("t5")}),
            "xlm-roberta": backend("fairseq", {"config.json": config("xlm-roberta")}),
            "camembert": backend("fairseq-bpe", {"config.json": config("camembert")}),
        }
        self.classes = {"bert": "BertTokenizer", "roberta": "RobertaTokenizer", "gpt2": "GPT2Tokenizer", "t5": "T5Tokenizer",
                        "xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer"}

    def maybe(self, share=0.3):
        return self.rng.random() < share

    def flags(self):
        return {k: self.maybe() for k in ("lstrip", "rstrip", "single_word", "normalized", "special")}

    def content(self):
        return self.rng.choice(["newtok", "Foo", "[MASK]", "<mask>", "</s>", "<pad>", "[PAD]", "<usr>", "good", "é", "fi", "FOO", " b", "<|endoftext|>"])

    def name_token(self):
        return named(self.content(), **self.flags()) if self.maybe(0.5) else self.content()

    def next(self):
        rng = self.rng
        kind = rng.choice(list(self.json))
        base = {"bert": "wordpiece", "roberta": "bytepairs", "gpt2": "bytepairs", "t5": "t5",
                "xlm-roberta": rng.choice(["fairseq", "fairseq-bpe"]), "camembert": rng.choice(["fairseq", "fairseq-bpe"])}[kind]
        files = {"config.json": config(kind)}
        if kind == "gpt2":
            files["vocab.json"] = self.gpt2_vocabulary
        settings = {}
        if self.maybe(0.7):
            settings["tokenizer_class"] = self.classes[kind] + rng.choice(["", "Fast"])
        if self.maybe(0.15):
            settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        for key, values in {
            "do_lower_case": [True, False], "strip_accents": [None, True, False], "tokenize_chinese_chars": [True, False],
            "do_basic_tokenize": [True, False], "add_prefix_space": [True, False], "trim_offsets": [True, False],
            "truncation_side": ["left", "right"], "split_special_tokens": [True, False], "add_bos_token": [True, False],
            "clean_up_tokenization_spaces": [True, False], "legacy": [None, True, False], "extra_ids": [0, 4, 100],
            "model_input_names": [["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]],
            "model_max_length": [512], "padding_side": ["left"],
        }.items():
            if self.maybe(0.15):
                settings[key] = rng.choice(values)
        for key in ("mask_token", "pad_token", "unk_token", "cls_token", "sep_token", "bos_token", "eos_token"):
            if self.maybe(0.07):
                settings[key] = rng.choice([None, self.name_token(), self.name_token()])
        if self.maybe(0.15):
            settings["additional_special_tokens"] = rng.choice([None, [], [self.name_token() for _ in range(rng.randint(1, 3))]])
        if self.maybe(0.08):
            settings["extra_special_tokens"] = {"image_token": self.name_token()}
        full_json = self.maybe(0.6)
        if full_json:
            files["tokenizer.json"] = self.tokenizer_json(kind)
        if self.maybe(0.3):
            settings["added_tokens_decoder"] = {str(rng.choice([0, 3000, 4000, 5000])): token(self.content(), **self.flags()) for _ in range(rng.randint(0, 3))}
        if self.maybe(0.25):
            files["special_tokens_map.json"] = json.dumps({
                k: rng.choice([self.content(), token(self.content(), **{f: v for f, v in self.flags().items() if f != "special"})])
                for k in ("mask_token", "pad_token", "unk_token", "cls_token", "eos_token") if self.maybe(0.3)}
                | ({"additional_special_tokens": [self.content()]} if self.maybe(0.2) else {}))
        if self.maybe(0.15):
            files["added_tokens.json"] = json.dumps({c: i for i, c in enumerate(sorted({self.content() for _ in range(2)}), rng.choice([4, 900, 3000]))})
        if settings or self.maybe(0.5):
            files["tokenizer_config.json"] = json.dumps(settings)
        if self.maybe(0.05):
            files["config.json"] = config(kind, tokenizer_class=self.classes[kind])
        return base, files

    def tokenizer_json(self, kind):
        rng = self.rng
        d = copy.deepcopy(self.json[kind])
        if kind == "bert" and self.maybe():
            d["normalizer"] = rng.choice([
                {"type": "BertNormalizer", "clean_text": self.maybe(0.5), "handle_chinese_chars": self.maybe(0.5),
                 "strip_accents": rng.choice([None, True, False]), "lowercase": self.maybe(0.5)},
                {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]},
                {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "Strip", "strip_left": True, "strip_right": True}]},
                {"type": "Lowercase"}, {"type": "Prepend", "prepend": "a"}, {"type": "Replace", "pattern": {"String": "oo"}, "content": "o"}, None])
            d["pre_tokenizer"] = rng.choice([{"type": "BertPreTokenizer"}, {"type": "Whitespace"}, {"type": "WhitespaceSplit"}])
        if kind in ("roberta", "gpt2"):
            if self.maybe():
                d["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": self.maybe(0.5), "trim_offsets": self.maybe(0.5), "use_regex": self.maybe(0.8)}
            if self.maybe():
                d["post_processor"] = rng.choice([
                    None, {"type": "ByteLevel", "add_prefix_space": self.maybe(0.5), "trim_offsets": self.maybe(0.5), "use_regex": True},
                    {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": self.maybe(0.5), "add_prefix_space": self.maybe(0.5)}])
            if self.maybe(0.2):
                d["model"]["merges"] = [" ".join(m) for m in d["model"]["merges"]]
        if kind in ("t5", "xlm-roberta", "camembert"):
            if self.maybe():
                d["pre_tokenizer"] = rng.choice([
                    {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
                    {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True, "prepend_scheme": "first", "split": False},
                    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True},
                    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
                    {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]}])
            if self.maybe():
                d["normalizer"] = rng.choice([
                    {"type": "Precompiled", "precompiled_charsmap": "@charsmap@"},
                    {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": "@charsmap@"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
                    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, None])
            if self.maybe(0.2):
                d["model"]["byte_fallback"] = True
                d["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
        for t in d["added_tokens"]:
            if self.maybe(0.1):
                t.update(self.flags())
        if self.maybe(0.3):
            for _ in range(rng.randint(1, 3)):
                d["added_tokens"].append({"id": rng.choice([8, 1000, 5000]), **token(self.content(), **self.flags())})
        if self.maybe(0.1):
            d["truncation"] = {"direction": rng.choice(["Left", "Right"]), "max_length": 20, "strategy": "LongestFirst", "stride": 0}
        if self.maybe(0.1):
            d["padding"] = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": self.content()}
        if self.maybe(0.1):
            del d["model"]["type"]
        return json.dumps(d, ensure_ascii=False)


def byte_pair_cases(vocabulary):
    roberta, gpt2 = {"config.json": config("roberta")}, {"config.json": config("gpt2"), "vocab.json": vocabulary}
    merges = (TESTDATA / "bytepairs" / "merges.txt").read_text()
    for files in (roberta, gpt2):
        for source in ({}, {"tokenizer.json": json.dumps(backend("bytepairs", files), ensure_ascii=False)}):
            for prefix in (UNSET, True, False):
                for trim in (UNSET, False):
                    yield case("bytepairs", {**files, **source, **setting(add_prefix_space=prefix, trim_offsets=trim)}, full=True)
            for more in (setting(mask_token="<mask>", pad_token="<pad>"), setting(mask_token=named("<mask>", lstrip=False)), setting(pad_token=None),
                         setting(add_bos_token=True), setting(truncation_side="left"), setting(tokenizer_class="PreTrainedTokenizerFast"),
                         {"special_tokens_map.json": json.dumps({"mask_token": token("<mask>", rstrip=True), "pad_token": "<new>"})}):
                yield case("bytepairs", {**files, **source, **more})
        d = backend("bytepairs", files)
        for processor in (None, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                          {"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                                                              {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                                                               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                                                               "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}]}):
            yield case("bytepairs", {**files, "tokenizer.json": json.dumps({**d, "post_processor": processor}, ensure_ascii=False)}, full=True)
        for splitter in ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                         {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
                         {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}]}):
            yield case("bytepairs", {**files, "tokenizer.json": json.dumps({**d, "pre_tokenizer": splitter}, ensure_ascii=False)}, full=True)
    lines = merges.split("\n")
    for changed in (merges.rstrip("\n"), "\n".join(lines[1:]), merges.replace("\n", "\r\n"), merges + "\n", "\n".join(lines[:20] + lines[3:]), "\n".join(lines[:9] + ["a"] + lines[9:])):
        yield case("bytepairs", {**roberta, "merges.txt": changed})


def piece_cases():
    for base, kind in (("t5", "t5"), ("fairseq", "xlm-roberta"), ("fairseq-bpe", "xlm-roberta"), ("fairseq", "camembert"), ("fairseq-bpe", "camembert")):
        files = {"config.json": config(kind)}
        d = backend(base, files)
        for source in ({}, {"tokenizer.json": json.dumps(d, ensure_ascii=False)}):
            yield case(base, {**files, **source}, full=True)
            for more in (setting(mask_token="<mask>"), setting(mask_token=named("<mask>", lstrip=False, normalized=False, special=True)),
                         setting(additional_special_tokens=["<new>"]), setting(extra_ids=0), setting(extra_ids=4), setting(extra_ids=4, additional_special_tokens=["<extra_id_0>"]),
                         setting(legacy=False), setting(add_prefix_space=False), setting(add_prefix_space=True), setting(tokenizer_class="PreTrainedTokenizerFast"),
                         {"added_tokens.json": json.dumps({"newtok": 700, "Foo": 701})}):
                yield case(base, {**files, **source, **more})
        precompiled, always = {"type": "Precompiled", "precompiled_charsmap": "@charsmap@"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
        for normalizer, splitter in (
            ({"type": "Sequence", "normalizers": [precompiled, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}, {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}),
            (precompiled, {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, always]}),
            ({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}, None),
            (None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}), (None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}),
            (None, {"type": "Metaspace", "replacement": "▁", "add_prefix_space": False}),
        ):
            yield case(base, {**files, "tokenizer.json": json.dumps({**d, "normalizer": normalizer, "pre_tokenizer": splitter}, ensure_ascii=False)}, full=True)
        fallback = copy.deepcopy(d)
        fallback["model"]["byte_fallback"] = True
        fallback["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
        for bytes_known in (256, 200):
            for i in range(bytes_known):
                piece = f"<0x{i:02X}>"
                if base == "fairseq-bpe":
                    fallback["model"]["vocab"].setdefault(piece, len(fallback["model"]["vocab"]))
                elif bytes_known == 256:
                    fallback["model"]["vocab"].append([piece, -5.0])
            yield case(base, {**files, "tokenizer.json": json.dumps(fallback, ensure_ascii=False)}, full=True)
        del d["model"]["type"]
        yield case(base, {**files, "tokenizer.json": json.dumps(d, ensure_ascii=False)})


def word_piece_cases(d):
    def changed(**parts):
        return {"tokenizer.json": json.dumps({**d, **parts}, ensure_ascii=False)}
    for name in ("BertTokenizer", "DistilBertTokenizerFast", "ElectraTokenizer", "PreTrainedTokenizerFast", None, "PreTrainedTokenizer"):
        for kind in ("bert", "distilbert", "electra"):
            yield case("wordpiece", {"config.json": config(kind), **changed(normalizer={**d["normalizer"], "lowercase": False}), **setting(tokenizer_class=name)})
    for normalizer in (None, {"type": "Lowercase"}, {"type": "NFD"}, {**d["normalizer"], "clean_text": False}, {"type": "Sequence", "normalizers": [d["normalizer"]]},
                       {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]}):
        for name in ("BertTokenizer", "PreTrainedTokenizerFast"):
            yield case("wordpiece", {**changed(normalizer=normalizer), **setting(tokenizer_class=name, do_lower_case=False)}, full=True)
    for splitter in ({"type": "Whitespace"}, {"type": "WhitespaceSplit"}, None):
        yield case("wordpiece", changed(pre_tokenizer=splitter), full=True)
    added = [token("newtok", **{flag: True}) for flag in ("lstrip", "rstrip", "single_word", "special")] + [token("newtok", normalized=False), token("NewTok"), token("NewTok", normalized=False)]
    for t in added:
        yield case("wordpiece", setting(added_tokens_decoder={"400": t}), full=True)
        yield case("wordpiece", {**changed(added_tokens=d["added_tokens"] + [{"id": 400, **t}]), **setting(do_lower_case=False)})
        yield case("wordpiece", {**setting(do_lower_case=False), "special_tokens_map.json": json.dumps({"mask_token": {k: v for k, v in t.items() if k != "special"}})})
    yield case("wordpiece", {"added_tokens.json": json.dumps({"newtok": 400, "Foo": 401})})
    yield case("wordpiece", {"added_tokens.json": json.dumps({"newtok": 400}), "special_tokens_map.json": json.dumps({"additional_special_tokens": ["newtok", "foo"]})})
    vocabulary = (TESTDATA / "wordpiece" / "vocab.txt").read_text(encoding="utf-8")
    for changed_vocabulary in (vocabulary.replace("\n", "\r\n"), vocabulary.rstrip("\n"), vocabulary + "\n", vocabulary + "foo\n", vocabulary.replace("[MASK]\n", ""), vocabulary.replace("[UNK]\n", "")):
        yield case("wordpiece", {"vocab.txt": changed_vocabulary})
    for more in (dict(do_basic_tokenize=False, added_tokens_decoder={"400": token("NewTok")}), dict(never_split=["Foo"]), dict(do_lower_case=None), dict(split_special_tokens=True),
                 dict(truncation_side="left"), dict(model_input_names=["input_ids", "attention_mask"]), dict(mask_token=named("[MASK]", lstrip=True)), dict(pad_token=None), dict(unk_token="[PAD]"),
                 dict(cls_token="<s>", sep_token="[SEP]"), dict(cls_token="one", sep_token="two"), dict(extra_special_tokens={"image": "newtok"}), dict(additional_special_tokens=["newtok", named("Foo", normalized=False)])):
        yield case("wordpiece", setting(**more))
        yield case("wordpiece", {**changed(), **setting(**more)})
    yield case("wordpiece", {**changed(truncation={"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}, padding={
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "foo"}), **setting(tokenizer_class="PreTrainedTokenizerFast")})


def cases():
    full = backend("wordpiece", {"config.json": config("bert")})
    cased = copy.deepcopy(full)
    cased["normalizer"]["lowercase"] = False
    yield from bert_cases(json.dumps(full, ensure_ascii=False), json.dumps(cased, ensure_ascii=False))
    yield from word_piece_cases(full)
    yield from byte_pair_cases(Directories(0).gpt2_vocabulary)
    yield from piece_cases()
    yield from random_cases(100, 1)


def random_cases(n, seed):
    directories = Directories(seed)
    for i in range(n):
        base, files = directories.next()
        yield case(base, files, full=i % 4 == 0)


def save(all_cases, path):
    all_cases = list(all_cases)
    count, failed = len(all_cases), sum("error" in c for c in all_cases)
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=9) as f:
        for c in [{"parts": PARTS}, *all_cases]:
            f.write((json.dumps(c, ensure_ascii=False, separators=(",", ":")) + "\n").encode())
    print(f"{path}: {count} directories, {failed} that transformers does not load")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    if len(sys.argv) > 2:
        save(random_cases(int(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else 1), sys.argv[2])
    else:
        save(cases(), TESTDATA / "settings.jsonl.gz")
