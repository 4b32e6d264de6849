#!/usr/bin/env python3
"""Makes of MIMIC-III's tables what the scripts of Mullenbach et al. 2018 (CAML) make of them, with pandas, whose guesses
at types are the reason for the odd codes in published label lists. For the comparison in tests/preprocess/golden.rs:

    python3 scripts/caml_tables.py tests/data/caml/letters/in tests/data/caml/letters/out

Where the published scripts leave an order open, it is that of this project: a stable sort by length, sorted labels."""
import collections
import csv
import re
import sys
from pathlib import Path

import pandas as pd

SPLITS = ["train", "dev", "test"]
TOP = 50
WORD = re.compile(r"\w+")


def dotted(code, diagnosis):
    code = code.replace(".", "")
    if not diagnosis:
        return code[:2] + "." + code[2:]
    stem = 4 if code.startswith("E") else 3
    return code[:stem] + "." + code[stem:] if len(code) > stem else code


def all_codes(source, out):
    tables = []
    for name, diagnosis in (("DIAGNOSES_ICD", True), ("PROCEDURES_ICD", False)):
        table = pd.read_csv(source / f"{name}.csv")
        table["code"] = table.apply(lambda row: dotted(str(row.iloc[4]), diagnosis), axis=1)
        tables.append(table)
    columns = ["ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "code"]
    header = columns[:4] + ["ICD9_CODE"]
    pd.concat(tables).to_csv(out / "ALL_CODES.csv", index=False, columns=columns, header=header)


def summaries(source, out):
    path = out / "disch_full.csv"
    with open(source / "NOTEEVENTS.csv", encoding="utf-8", newline="") as file, open(path, "w", encoding="utf-8") as to:
        rows = csv.reader(file)
        next(rows)
        to.write("SUBJECT_ID,HADM_ID,CHARTTIME,TEXT\n")
        for row in rows:
            if row[6] == "Discharge summary":
                words = [word.lower() for word in WORD.findall(row[10]) if not word.isnumeric()]
                to.write(",".join([row[1], row[2], row[4], '"' + " ".join(words) + '"']) + "\n")
    table = pd.read_csv(path).sort_values(["SUBJECT_ID", "HADM_ID"])
    table.to_csv(path, index=False)
    return set(table["HADM_ID"])


def filtered_codes(admissions, out):
    path = out / "ALL_CODES_filtered.csv"
    with open(out / "ALL_CODES.csv", newline="") as file, open(path, "w", newline="") as to:
        writer = csv.writer(to, lineterminator="\n")
        writer.writerow(["SUBJECT_ID", "HADM_ID", "ICD9_CODE", "ADMITTIME", "DISCHTIME"])
        rows = csv.reader(file)
        next(rows)
        writer.writerows([*row[1:3], row[-1], "", ""] for row in rows if int(row[2]) in admissions)
    pd.read_csv(path).sort_values(["SUBJECT_ID", "HADM_ID"]).to_csv(path, index=False)


def by_admission(path, column):
    groups = collections.OrderedDict()
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        for row in rows:
            groups.setdefault((row[0], row[1]), []).append(row[column])
    return groups


def ids(source, split, kind):
    return {line.strip() for line in open(source / "splits" / f"{split}_{kind}_hadm_ids.csv") if line.strip()}


def with_lengths(path, to):
    table = pd.read_csv(path)
    lengths = [len(str(text).split()) for text in table["TEXT"]]
    table.assign(length=lengths).sort_values("length", kind="stable").to_csv(to, index=False)


def main(source, out):
    out.mkdir(parents=True, exist_ok=True)
    all_codes(source, out)
    filtered_codes(summaries(source, out), out)
    labels = by_admission(out / "ALL_CODES_filtered.csv", 2)
    texts = by_admission(out / "disch_full.csv", 3)
    notes = [[*key, " ".join(text), ";".join(labels[key])] for key, text in texts.items() if key in labels]
    header = ["SUBJECT_ID", "HADM_ID", "TEXT", "LABELS"]
    with open(out / "notes_labeled.csv", "w", encoding="utf-8", newline="") as to:
        csv.writer(to).writerows([header, *notes])

    counts = collections.Counter()
    for cell in pd.read_csv(out / "notes_labeled.csv")["LABELS"]:
        counts.update(str(cell).split(";"))
    top = sorted(counts, key=counts.get, reverse=True)[:TOP]
    with open(out / f"TOP_{TOP}_CODES.csv", "w", newline="") as to:
        csv.writer(to).writerows([code] for code in top)

    for split in SPLITS:
        listed = ids(source, split, "full")
        path = out / f"disch_{split}_split.csv"
        rows = [header, *(row for row in notes if row[1] in listed)]
        path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
        with_lengths(path, out / f"{split}_full.csv")
        listed = ids(source, split, TOP)
        path = out / f"{split}_{TOP}.csv"
        rows = [row[:3] + [";".join(sorted(set(row[3].split(";")) & set(top)))] for row in notes if row[1] in listed]
        with open(path, "w", encoding="utf-8", newline="") as to:
            csv.writer(to).writerows([header, *(row for row in rows if set(row[3].split(";")) & set(top))])
        with_lengths(path, path)

    words = collections.Counter()
    with open(out / "train_full.csv", encoding="utf-8", newline="") as file:
        for row in list(csv.reader(file))[1:]:
            words.update(set(row[2].split()))
    kept = sorted(word for word, number in words.items() if number >= 3)
    (out / "vocab.csv").write_text("".join(word + "\n" for word in kept), encoding="utf-8")


main(Path(sys.argv[1]), Path(sys.argv[2]))
