#!/usr/bin/env python3
"""Say what a given libtorch is: find.py PATH prints its folder, version, C++11 ABI (0 or 1) and CUDA (0 or 1).

PATH is a libtorch folder as pytorch.org packs it or a torch package in site-packages, or the folder that holds one;
the word `python` means the package that `python3 -c "import torch"` finds. Errors go to stderr.
"""
import importlib.util
import pathlib
import re
import sys

OLDEST, NEWEST = (2, 1), (2, 15)


def die(what, advice):
    print(f"Error: {what}\nTry:   {advice}", file=sys.stderr)
    sys.exit(4)


def folder(argument):
    if argument == "python":
        spec = importlib.util.find_spec("torch")
        if spec is None or not spec.submodule_search_locations:
            die(f"LIBTORCH=python: {sys.executable} has no package torch",
                "activate the environment that has it, or give its folder: LIBTORCH=/path/to/site-packages/torch")
        argument = spec.submodule_search_locations[0]
    path = pathlib.Path(argument).absolute()
    for candidate in path, path / "torch":
        if (candidate / "lib/libtorch_cpu.so").exists() and (candidate / "include/ATen/ATen.h").exists():
            if re.search(r"\s", str(candidate)):
                die(f"LIBTORCH={candidate}: compilers are not told of folders with spaces", "use a link without spaces")
            return candidate
    die(f"LIBTORCH={path}: there is no lib/libtorch_cpu.so with include/ATen in it",
        "LIBTORCH=/path/to/libtorch, LIBTORCH=/path/to/site-packages/torch, LIBTORCH=python, or leave it out to fetch one")


def version(torch):
    for header in "torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h":
        if (torch / "include" / header).exists():
            text = (torch / "include" / header).read_text()
            numbers = [re.search(rf"#define TORCH_VERSION_{part} (\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
            if all(numbers):
                return tuple(int(number[1]) for number in numbers)
    die(f"{torch}: its headers do not say which version it is", "use the libtorch or torch package of a release")


def cxx11_abi(torch):
    """Of libstdc++'s two strings, the one that libtorch's functions take: it is part of their names."""
    return int(b"torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_string" in (torch / "lib/libc10.so").read_bytes())


if __name__ == "__main__":
    torch = folder(sys.argv[1])
    found = version(torch)
    text = ".".join(map(str, found))
    if found[:2] < OLDEST:
        die(f"{torch} is libtorch {text}, and 2.1 is the oldest that gotch knows", "use a newer one, or leave LIBTORCH out to fetch 2.1.2")
    if found[:2] > NEWEST:
        print(f"libtorch {text} is newer than {'.'.join(map(str, NEWEST))}, the newest that was tried", file=sys.stderr)
    print(torch, text, cxx11_abi(torch), int((torch / "lib/libtorch_cuda.so").exists()))
