"""Write the rows of the recorded tasks: 1,000 for training and 500 for dev, drawn with a fixed seed.

python3 benchmarks/peftbench/prepare.py SST2_DIR writes data/ beside this file. STS-B is the repository's own
copy; SST2_DIR holds stsa.binary.train and stsa.binary.dev, the sentence-level SST-2.
"""
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).parent
ROWS = {"train": 1000, "dev": 500}


def write(task, split, header, rows):
    rows = random.Random(f"{task}/{split}").sample(list(rows), ROWS[split])
    path = HERE / "data" / task / f"{split}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for split in ROWS:
        header, *rows = (HERE / f"../../examples/data/stsb/{split}.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
        # The splits spell a genre differently.
        write("stsb", split, header, (row.replace("main-forums\t", "main-forum\t", 1) for row in rows))
        lines = (pathlib.Path(sys.argv[1]) / f"stsa.binary.{split}").read_text(encoding="utf-8").rstrip("\n").split("\n")
        write("sst2", split, "label\tsentence", (line.replace(" ", "\t", 1) for line in lines))


if __name__ == "__main__":
    main()
