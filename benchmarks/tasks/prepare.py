"""Write the rows of the studies in this folder, drawn with fixed seeds, to data/.

    python3 benchmarks/tasks/prepare.py DATASETS_DIR

DATASETS_DIR holds sl_ner/bsnlp_{train,dev,test}.tsv (BSNLP, Slovene), openbookqa/{train,test}.json (as in LLM-Adapters),
copa/{train,dev,test}.jsonl (SuperGLUE's format), gap/ (GAP's three files) and wsc/train_joined.jsonl (SuperGLUE's WSC).
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


def sentences(path, known=()):
    """Sentences of more than 4 words, each once; those that stand in known are left out."""
    seen = set(known)
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        words = tuple(line.split("\t")[0] for line in block.split("\n"))
        if len(words) > 4 and words not in seen:
            seen.add(words)
            yield words, block


def ner(folder):
    """The tags, and as rows of several labels the types of the entities that a sentence has."""
    known = set()
    for split, count in (("train", 800), ("dev", 250), ("test", 600)):
        drawn = draw(sentences(folder / f"sl_ner/bsnlp_{split}.tsv", known), count, f"ner {split}")
        known |= {words for words, _ in drawn}
        write(f"ner/{split}.tsv", [block + "\n" for _, block in drawn])
        rows = []
        for words, block in drawn:
            types = sorted({tag[2:] for tag in re.findall(r"\t(.*)", block) if tag != "O"} & {"LOC", "ORG", "PER", "PRO", "EVT"})
            rows.append(json.dumps({"text": " ".join(words), "types": types}, ensure_ascii=False))
        write(f"types/{split}.jsonl", rows)


def openbookqa(folder):
    def rows(split):
        for row in json.loads((folder / f"openbookqa/{split}.json").read_text(encoding="utf-8")):
            stem, *choices = re.fullmatch(r"Please choose the correct answer to the question: (.*)\n\nAnswer1: (.*) Answer2: (.*) "
                                          r"Answer3: (.*) Answer4: (.*)\n\nAnswer format: .*", row["instruction"], re.S).groups()
            yield stem, json.dumps({"stem": stem, "choices": choices, "answer": row["answer"]})

    test = list(rows("test"))
    stems = {stem for stem, _ in test}
    train = draw((row for stem, row in rows("train") if stem not in stems), 1000, "openbookqa")
    write("openbookqa/train.jsonl", train[:800])
    write("openbookqa/dev.jsonl", train[800:])
    write("openbookqa/test.jsonl", [row for _, row in test])


def gap(folder):
    for split, source, count in (("train", "train_gap-development", 700), ("dev", "dev_gap-validation", 200), ("test", "test_gap-test", 500)):
        header, *rows = (folder / f"gap/{source}.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
        write(f"gap/{split}.tsv", [header, *draw(rows, count, f"gap {split}")])


def whole(folder):
    for split in ("train", "dev", "test"):
        write(f"copa/{split}.jsonl", (folder / f"copa/{split}.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n"))
    write("wsc/rows.jsonl", (folder / "wsc/train_joined.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n"))


if __name__ == "__main__":
    for task in (ner, openbookqa, gap, whole):
        task(pathlib.Path(sys.argv[1]))
