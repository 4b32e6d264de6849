#!/usr/bin/env python3
"""Writes tests/data/python_ids.json: what Python's `tokenizers` makes of hard text, for the comparison in
tests/tokenize/parity.rs. Needs the package and a folder with bert-base-uncased/ and roberta-base/:
python3 scripts/python_ids.py FOLDER"""
import json
import sys

import tokenizers

TEXTS = [
    "",
    " ",
    "Patient admitted with chest pain; WBC 12.3K, BP 120/80.",
    "  leading and   inner    blanks \t tabs\r\nline ends\n\n ",
    "Café naïve Ångström İstanbul ΣΊΣΥΦΟΣ Größe cafe\u0301",
    "½ cup ² Ⅷ ① ٣٤٥ 一二三 漢字かなカナ 한국어 עברית العربية",
    "emoji 😀 👩\u200d👩\u200d👧 ✓ ♥ → ± °C µg",
    "control \x00\x01\x7f chars \u200b zero width \ufeff bom \ufffd \u00ad soft",
    "no\u00a0break\u2003em\u3000ideographic\u2028line\u0085next",
    "[CLS] literal [MASK] tokens <s> and <mask> , </s>  <pad> [SEP][PAD]",
    "don't we'll I've it's 'quoted' rock\u2019n\u2019roll ... --- *** ____",
    "a" * 99 + " " + "b" * 100 + " " + "c" * 101 + " " + "antidisestablishmentarianism" * 20,
    "1234567890" * 30,
    "!" * 300,
    "[**Hospital1 18**] [**2999-1-2**] ___ Dr. [**Last Name (un) 45**]",
    "\U0001d54f\U00010348\U0001f9ec \u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940",
    "UPPER lower MiXeD don\u0301t E\u0301",
]


def long_note():
    """60,000 words, the same ones in the Rust test."""
    return " ".join(f"word{i % 997} sodium {i}, stable." for i in range(20_000))


def checksum(ids):
    value = 0
    for i in ids:
        value = (value * 1_000_003 + i) % (1 << 61)
    return value


def main(folder):
    out = {"made_with": f"tokenizers {tokenizers.__version__}", "tokenizers": []}
    for name in ("bert-base-uncased", "roberta-base"):
        tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/{name}/tokenizer.json")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        long = encode(long_note())
        out["tokenizers"].append(
            {
                "name": name,
                "ids": [encode(text) for text in TEXTS],
                "long_tokens": len(long),
                "long_checksum": checksum(long),
            }
        )
    out["texts"] = TEXTS
    with open("tests/data/python_ids.json", "w", encoding="ascii") as file:
        json.dump(out, file, separators=(",", ":"))
        file.write("\n")


main(sys.argv[1])
