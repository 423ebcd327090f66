"""Write the rows of the studies in this folder, drawn with fixed seeds, to data/.

    python3 benchmarks/tasks/prepare.py DATASETS_DIR

DATASETS_DIR holds sl_ner/bsnlp_{train,dev,test}.tsv (BSNLP, Slovene), sl_ner/ud_ssj_{dev,test}.tsv (UD
Slovenian-SSJ), sl_ner/ssj500k_{dev,test}.tsv, si_nli/{train,dev}.tsv, openbookqa/{train,test}.json (as in
LLM-Adapters), copa/{train,dev,test}.jsonl (SuperGLUE's format), gap/ (GAP's three files) and wsc/train_joined.jsonl
(SuperGLUE's WSC).
"""

import json
import pathlib
import random
import re
import sys

OUT = pathlib.Path(__file__).parent / "data"


def draw(rows, count, seed):
    rows = list(rows)
    if count is not None:
        random.Random(seed).shuffle(rows)
        rows = rows[:count]
    return rows


def write(name, rows):
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(path, len(rows), "lines")


def sentences(path, known=(), longest=20):
    """Sentences of at least 5 words, each once; those that stand in known are left out."""
    seen = set(known)
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        words = tuple(line.split("\t")[0] for line in block.split("\n"))
        if 5 <= len(words) <= longest and words not in seen:
            seen.add(words)
            yield words, block


def ner(folder):
    """The tags, and as rows of several labels the types of the entities that a sentence has."""
    known = set()
    for split, count in (("train", 400), ("dev", 120), ("test", 500)):
        drawn = draw(sentences(folder / f"sl_ner/bsnlp_{split}.tsv", known), count, f"ner {split}")
        known |= {words for words, _ in drawn}
        write(f"ner/{split}.tsv", [block + "\n" for _, block in drawn])
        rows = []
        for words, block in drawn:
            types = sorted(
                {tag[2:] for tag in re.findall(r"\t(.*)", block) if tag != "O"} & {"LOC", "ORG", "PER", "PRO", "EVT"}
            )
            rows.append(json.dumps({"text": " ".join(words), "types": types}, ensure_ascii=False))
        write(f"types/{split}.jsonl", rows)


def sl_ner(folder):
    """Sentences of ssj500k for dev and test, of UD Slovenian-SSJ and what is left to train on. There most have no
    entity: of those one in five is kept."""
    known = set()
    for split, sources, count in (
        ("test", ["ssj500k_test"], None),
        ("dev", ["ssj500k_dev"], 250),
        ("train", ["ud_ssj_dev", "ud_ssj_test", "ssj500k_dev"], None),
    ):
        drawn = []
        for source in sources:
            drawn += sentences(folder / f"sl_ner/{source}.tsv", known | {words for words, _ in drawn}, longest=40)
        drawn = draw(drawn, count, f"sl_ner {split}")
        known |= {words for words, _ in drawn}
        if split == "train":
            without = [row for row in drawn if not re.search(r"\t[BI]-", row[1])]
            left_out = set(without[len(without) // 5 :])
            drawn = [row for row in drawn if row not in left_out]
        write(f"sl_ner/{split}.tsv", [block + "\n" for _, block in drawn])


def si_nli(folder):
    """The test rows are of train, by premise: those of SI-NLI have no labels."""
    for split in ("dev", "train"):
        header, *rows = (folder / f"si_nli/{split}.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
        names = header.split("\t")
        rows = [
            tuple(row.split("\t")[names.index(name)] for name in ("premise", "hypothesis", "label")) for row in rows
        ]
        if split == "dev":
            write("si_nli/dev.tsv", ["premise\thypothesis\tlabel", *map("\t".join, draw(rows, 300, "si_nli dev"))])
            continue
        held = set(draw(sorted({premise for premise, *_ in rows}), 170, "si_nli test"))
        for name, kept in (
            ("train", [r for r in rows if r[0] not in held]),
            ("test", [r for r in rows if r[0] in held]),
        ):
            write(f"si_nli/{name}.tsv", ["premise\thypothesis\tlabel", *map("\t".join, kept)])


def openbookqa(folder):
    def rows(split):
        for row in json.loads((folder / f"openbookqa/{split}.json").read_text(encoding="utf-8")):
            stem, *choices = re.fullmatch(
                r"Please choose the correct answer to the question: (.*)\n\nAnswer1: (.*) Answer2: (.*) "
                r"Answer3: (.*) Answer4: (.*)\n\nAnswer format: .*",
                row["instruction"],
                re.S,
            ).groups()
            yield stem, json.dumps({"stem": stem, "choices": choices, "answer": row["answer"]})

    test = list(rows("test"))
    stems = {stem for stem, _ in test}
    train = draw((row for stem, row in rows("train") if stem not in stems), 620, "openbookqa")
    write("openbookqa/train.jsonl", train[:500])
    write("openbookqa/dev.jsonl", train[500:])
    write("openbookqa/test.jsonl", [row for _, row in test])


def gap(folder):
    for split, source, count in (
        ("train", "train_gap-development", 600),
        ("dev", "dev_gap-validation", 120),
        ("test", "test_gap-test", 400),
    ):
        header, *rows = (folder / f"gap/{source}.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
        rows = [row for row in rows if len(row.split("\t")[1].split()) <= 80]
        write(f"gap/{split}.tsv", [header, *draw(rows, count, f"gap {split}")])


def wsc(folder):
    """WSC's rows as they are, and as choices: each text with its pronoun replaced by each candidate, where one fits."""
    rows = (folder / "wsc/train_joined.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
    write("wsc/rows.jsonl", rows)
    groups = {}
    for row in map(json.loads, rows):
        target = row["target"]
        groups.setdefault((row["text"], target["span2_index"]), []).append(row)
    choices = []
    for (text, at), group in groups.items():
        if len(group) < 2 or sum(row["label"] for row in group) != 1:
            continue
        words = text.split()
        pronoun = len(group[0]["target"]["span2_text"].split())
        choices.append(
            json.dumps(
                {
                    "text": text,
                    "answer": [row["label"] for row in group].index(True),
                    "choices": [
                        " ".join([*words[:at], row["target"]["span1_text"], *words[at + pronoun :]]) for row in group
                    ],
                }
            )
        )
    write("wsc/choices.jsonl", choices)


def whole(folder):
    for split in ("train", "dev", "test"):
        write(
            f"copa/{split}.jsonl", (folder / f"copa/{split}.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
        )


if __name__ == "__main__":
    for task in (ner, sl_ner, si_nli, openbookqa, gap, wsc, whole):
        task(pathlib.Path(sys.argv[1]))
