"""Write the rows of a benchmark's tasks, drawn with fixed seeds; splits that are not drawn are whole.

    python3 benchmarks/prepare.py confirm SST2_DIR         for docs/results.md
    python3 benchmarks/prepare.py peftbench DATASETS_DIR   for docs/explain/benchmarks.md
    python3 benchmarks/prepare.py batches STSB_DIR         for docs/explain/performance.md
    python3 benchmarks/prepare.py proof DATASETS_DIR       for benchmarks/proof.py

They go to data/ in the benchmark's folder. STS-B is the repository's own copy. SST2_DIR holds stsa.binary.train,
stsa.binary.dev and stsa.binary.test, the sentence-level SST-2 with labelled test rows; STSB_DIR holds train.tsv and
dev.tsv of STS-B with all their columns; DATASETS_DIR holds sst2/ and stsb/ with these files, and scitldr_a/ with
train.jsonl, dev.jsonl and test.jsonl of SciTLDR-A. For the proof it also holds mrpc/, cola/, rte/ and si_nli/ with the
files of the tasks; where these have no labelled test split, their dev rows are the test rows, and dev is drawn from the
train rows.
"""

import json
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).parent


def stsb(_, split):
    text = (HERE / f"../examples/data/stsb/{split}.tsv").read_text(encoding="utf-8")
    return text.replace("main-forums\t", "main-forum\t").rstrip("\n").split("\n")  # the splits spell it differently


def captions(_, split):
    header, *rows = stsb(_, split)
    return [header, *(row for row in rows if row.startswith("main-captions\t"))]


def sst2(folder, split):
    lines = (folder / f"stsa.binary.{split}").read_text(encoding="utf-8").rstrip("\n").split("\n")
    return ["label\tsentence", *(line.replace(" ", "\t", 1) for line in lines)]


def titles(folder, split):
    """Each paper's title with its own summary, and with that of another paper."""
    papers = [
        json.loads(line) for line in (folder / f"scitldr_a/{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    papers = [(" ".join(p["title"].split()), " ".join(p["target"][0].split())) for p in papers if p["title"]]
    rng, rows = random.Random(split), ["label\ttitle\tsummary"]
    for i, (title, summary) in enumerate(papers):
        other = papers[(i + rng.randrange(1, len(papers))) % len(papers)][1]
        rows += [f"1\t{title}\t{summary}", f"0\t{title}\t{other}"]
    return rows


def sources(folder, split):
    """Sentences with the file of STS-B that they come from. Dev rows are train rows too: dev has other files."""
    header, *rows = (folder / "train.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
    label, text = (header.split("\t").index(column) for column in ("filename", "sentence1"))
    rows = [row.split("\t") for row in rows]
    rows = sorted({f"{row[label]}\t{row[text]}" for row in rows})
    random.Random("sources").shuffle(rows)
    half = len(rows) // 2
    return ["filename\tsentence1", *(rows[:half] if split == "train" else rows[half:])]


def columns(folder, name, wanted, header=None):
    """Rows of a file with some of its columns; header is that of a file without one."""
    lines = (folder / name).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    names = header or lines.pop(0).split("\t")
    places = [names.index(column) for column in wanted]
    return ["\t".join(wanted), *("\t".join(line.split("\t")[place] for place in places) for line in lines)]


def halves(rows, split, dev):
    """The train rows without those drawn for dev, or these."""
    header, *rows = rows
    random.Random("dev").shuffle(rows)
    return [header, *(rows[:dev] if split == "dev" else rows[dev:])]


def carved(name, train, test, wanted, header=None):
    """A task without labelled test rows: its dev file is the test split."""

    def source(folder, split):
        if split == "test":
            return columns(folder / name, test, wanted, header)
        return halves(columns(folder / name, train, wanted, header), split, 500)

    return source


def mrpc(folder, split):
    name = {"train": "train.tsv", "dev": "dev.tsv", "test": "test_labelled_msr.txt"}[split]
    return columns(folder / "mrpc", name, ["Quality", "#1 String", "#2 String"])


# Of each benchmark's tasks, the source and how many rows of the splits are drawn.
TASKS = {
    "confirm": {
        "stsb": (stsb, {"train": 1500, "dev": 500, "test": None}),
        "sst2": (sst2, {"train": 1500, "dev": 500, "test": None}),
    },
    "peftbench": {
        "stsb": (stsb, {"train": 3000, "dev": 1000}),
        "captions": (captions, {"train": 800, "dev": 200}),
        "titles": (titles, {"train": None, "dev": 600}),
        "short-titles": (titles, {"train": 800, "dev": 400}),
        "sources": (lambda folder, split: sources(folder / "stsb", split), {"train": 960, "dev": 400}),
        "sentiment": (lambda folder, split: sst2(folder / "sst2", split), {"train": 800, "dev": 400}),
    },
    "proof": {
        "stsb": (stsb, {"train": 1500, "dev": 500, "test": None}),
        "sst2": (lambda folder, split: sst2(folder / "sst2", split), {"train": 1500, "dev": 500, "test": None}),
        "titles": (titles, {"train": 1500, "dev": 500, "test": None}),
        "mrpc": (mrpc, {"train": 1500, "dev": None, "test": None}),
        "cola": (
            carved("cola", "train.tsv", "dev.tsv", ["label", "sentence"], ["source", "label", "mark", "sentence"]),
            {"train": 1500, "dev": None, "test": None},
        ),
        "rte": (
            carved("rte", "train.tsv", "dev.tsv", ["label", "sentence1", "sentence2"]),
            {"train": 1500, "dev": None, "test": None},
        ),
        "si-nli": (
            carved("si_nli", "train.tsv", "dev.tsv", ["label", "premise", "hypothesis"]),
            {"train": 1500, "dev": None, "test": None},
        ),
    },
    "batches": {"stsb": (stsb, {"train": 1000, "dev": 500}), "sources": (sources, {"train": 1000, "dev": 500})},
}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in TASKS:
        sys.exit(__doc__)
    benchmark, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    for task, (source, splits) in TASKS[benchmark].items():
        for split, count in splits.items():
            header, *rows = source(folder, split)
            if count:
                rows = random.Random(f"{task}/{split}").sample(rows, count)
            path = HERE / benchmark / "data" / task / f"{split}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
