#!/usr/bin/env python3
"""Puts libtorch 2.11.0 into .libtorch/ of the checkout: from the package registry, pinned by version and hash.

    setup_libtorch.py [--cuda auto|yes|no] [--check]

Nothing is fetched where .libtorch is complete already, or where LIBTORCH names a libtorch or
LIBTORCH_USE_PYTORCH is set (then the installed Python package `torch` serves): those are linked, after a
check of their version. `--cuda auto` also fetches what a GPU needs where an NVIDIA driver is present.
Only the standard library and pip are used.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from registry import download, fail, require_pip, say

VERSION = "2.11.0"
HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / ".libtorch"
CUDA_PARTS = ("libtorch_cuda", "libc10_cuda", "libtorch_nvshmem", "libcaffe2_nvrtc")
NEVER = ("libtorch_python", "libshm")
CPU_NEEDS = ("libcudart.so.13", "libcupti.so.13")
DISK_NEEDED = {False: 2_000_000_000, True: 9_000_000_000}


def version_of(folder):
    """The version of an unpacked libtorch, from `build-version` or the headers."""
    stated = folder / "build-version"
    if stated.is_file():
        return stated.read_text().strip().split("+")[0]
    header = folder / "include/torch/headeronly/version.h"
    if header.is_file():
        found = re.search(r'#define TORCH_VERSION\s*\\?\s*"([^"+]+)', header.read_text())
        return found.group(1) if found else None
    return None


def is_complete(folder, cuda):
    needed = ["libtorch_cpu.so", "libc10.so", *CPU_NEEDS] + (["libtorch_cuda.so"] if cuda else [])
    return version_of(folder) == VERSION and all((folder / "lib" / name).exists() for name in needed)


def link(folder, why):
    """Makes .libtorch a link to a libtorch that is there already."""
    folder = folder.resolve()
    if folder == TARGET.resolve():
        return
    if not (folder / "lib/libtorch_cpu.so").is_file() or not (folder / "include/torch").is_dir():
        fail(f"{why} names {folder}, which has no lib/libtorch_cpu.so and include/torch", "unset it to have libtorch fetched")
    found = version_of(folder)
    if found != VERSION:
        fail(f"{why} names libtorch {found}; {VERSION} is needed", "unset it to have the right one fetched")
    if TARGET.is_symlink():
        TARGET.unlink()
    elif TARGET.exists():
        fail(f"{TARGET} is in the way of the link to {folder}", f"remove it, or unset {why}")
    TARGET.symlink_to(folder)
    say(f"libtorch {VERSION}: linked to {folder}")


def pytorch_folder():
    code = "import torch, pathlib; print(pathlib.Path(torch.__file__).parent)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if run.returncode != 0:
        fail("LIBTORCH_USE_PYTORCH is set, but Python cannot import torch", "unset it to have libtorch fetched")
    return Path(run.stdout.strip())


def has_driver():
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def unpack(wheel, target, cuda):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            goal = place(entry.filename, cuda)
            if goal is None or entry.is_dir():
                continue
            path = target / goal
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def place(name, cuda):
    """Where a file of a wheel goes, or None if it is not needed."""
    base = os.path.basename(name)
    if name.startswith("torch/include/"):
        return name[len("torch/"):]
    if name.startswith("torch/lib/"):
        skip = NEVER if cuda else NEVER + CUDA_PARTS
        return None if base.startswith(skip) else name[len("torch/"):]
    if name.startswith("nvidia/") and "/lib/" in name and ".so" in base:
        return "lib/" + base if cuda or base in CPU_NEEDS else None
    return None


def install(cuda):
    free = shutil.disk_usage(TARGET.parent).free
    if free < DISK_NEEDED[cuda]:
        fail(f"{DISK_NEEDED[cuda] / 1e9:.0f} GB of disk are needed beside the checkout, {free / 1e9:.1f} GB are free")
    with tempfile.TemporaryDirectory(prefix=".libtorch-", dir=TARGET.parent) as scratch:
        wheels, staged = Path(scratch) / "wheels", Path(scratch) / "libtorch"
        lists = ["libtorch-cpu.txt"] + (["libtorch-cuda.txt"] if cuda else [])
        say(f"libtorch {VERSION}: fetching {'with' if cuda else 'without'} CUDA (about {'3 GB' if cuda else '550 MB'})")
        for name in lists:
            download(HERE / name, wheels)
        for wheel in sorted(wheels.glob("*.whl")):
            say(f"unpacking {wheel.name}")
            unpack(wheel, staged, cuda)
            wheel.unlink()
        (staged / "build-version").write_text(VERSION + "\n")
        if not is_complete(staged, cuda):
            fail("the packages did not hold all that is needed")
        remove_target()
        staged.rename(TARGET)
    say(f"libtorch {VERSION}: ready in {TARGET.name}/")


def remove_target():
    if TARGET.is_symlink():
        TARGET.unlink()
    elif TARGET.exists():
        shutil.rmtree(TARGET)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", choices=["auto", "yes", "no"], default="auto")
    parser.add_argument("--check", action="store_true", help="fetch nothing: say whether libtorch is there")
    arguments = parser.parse_args()
    cuda = arguments.cuda == "yes" or (arguments.cuda == "auto" and has_driver())
    if os.environ.get("LIBTORCH"):
        return link(Path(os.environ["LIBTORCH"]), "LIBTORCH")
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        return link(pytorch_folder(), "LIBTORCH_USE_PYTORCH")
    if is_complete(TARGET, cuda):
        return None
    if arguments.check:
        fail(f"libtorch {VERSION} is not in {TARGET.name}/", "make setup")
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        fail(f"libtorch is fetched for Linux on x86-64 only, this is {sys.platform} {os.uname().machine}",
             "install libtorch yourself and name it with LIBTORCH")
    require_pip()
    return install(cuda)


if __name__ == "__main__":
    main()
