#!/usr/bin/env python3
"""Write examples/data/stsb from the files of the STS Benchmark as GLUE distributes it.

    stsb.py SOURCE TARGET

SOURCE holds GLUE's train.tsv and dev.tsv, the benchmark's own labelled test file as
test_labelled_original.tsv, and LICENSE.txt. GLUE's test file has no labels, so the original one is
used: it has no header, other columns, and on some rows the attributions of the sentences at the end.
"""
import pathlib
import shutil
import sys

COLUMNS = ["genre", "sentence1", "sentence2", "score"]


def rows(path):
    for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
        yield line.rstrip("\r").split("\t")


def glue(path):
    header, *body = rows(path)
    at = [header.index(column) for column in COLUMNS]
    return [[row[i] for i in at] for row in body]


def original(path):
    return [[row[0], row[5], row[6], row[4]] for row in rows(path)]


def main(source, target):
    target.mkdir(parents=True, exist_ok=True)
    for split, body in [("train", glue(source / "train.tsv")), ("dev", glue(source / "dev.tsv")),
                        ("test", original(source / "test_labelled_original.tsv"))]:
        lines = ["\t".join(row) for row in [COLUMNS, *body]]
        (target / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{split}: {len(body)} rows")
    shutil.copyfile(source / "LICENSE.txt", target / "LICENSE.txt")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
