"""Write the rows of a benchmark's tasks, drawn with a fixed seed; the test rows are whole.

    python3 benchmarks/prepare.py confirm SST2_DIR      1,500 training and 500 dev rows, for docs/results.md
    python3 benchmarks/prepare.py peftbench SST2_DIR    1,000 training and 500 dev rows

They go to data/ in the benchmark's folder. STS-B is the repository's own copy; SST2_DIR holds
stsa.binary.train, stsa.binary.dev and stsa.binary.test, the sentence-level SST-2 with labelled test rows.
"""
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).parent
ROWS = {"confirm": {"train": 1500, "dev": 500}, "peftbench": {"train": 1000, "dev": 500}}


def write(benchmark, task, split, header, rows):
    rows = list(rows)
    if split in ROWS[benchmark]:
        rows = random.Random(f"{task}/{split}").sample(rows, ROWS[benchmark][split])
    path = HERE / benchmark / "data" / task / f"{split}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ROWS:
        sys.exit(__doc__)
    _, benchmark, sst2 = sys.argv
    for split in ("train", "dev", "test"):
        text = (HERE / f"../examples/data/stsb/{split}.tsv").read_text(encoding="utf-8")
        header, *rows = text.replace("main-forums\t", "main-forum\t").rstrip("\n").split("\n")  # the splits spell it differently
        write(benchmark, "stsb", split, header, rows)
        lines = (pathlib.Path(sst2) / f"stsa.binary.{split}").read_text(encoding="utf-8").rstrip("\n").split("\n")
        write(benchmark, "sst2", split, "label\tsentence", (line.replace(" ", "\t", 1) for line in lines))


if __name__ == "__main__":
    main()
