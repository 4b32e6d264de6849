//! How each code is written about: synonyms, drugs, laboratory values and findings.

use std::collections::{BTreeMap, BTreeSet};

use crate::codes::{CodeId, CodeTable, parse_system};
use crate::derive;
use crate::error::SynthError;
use crate::grammar::{Grammar, Wording};
use crate::pharmacy::{Pharmacy, Shift};

const FILE: &str = "wording.txt";

/// What may stand in a note for one code.
#[derive(Clone, Debug, Default)]
pub(crate) struct CodeWording {
    /// Noun phrases that name it; never empty once loaded.
    pub(crate) phrases: Vec<Wording>,
    /// Drugs that hint at it (places in [`Pharmacy::drugs`]).
    pub(crate) drugs: Vec<u16>,
    /// Laboratory values that hint at it.
    pub(crate) shifts: Vec<Shift>,
    /// Findings that hint at it.
    pub(crate) signs: Vec<Wording>,
}

/// Reads the wordings written by hand and makes the others from the titles; one entry per code.
pub(crate) fn load(
    table: &CodeTable,
    grammar: &Grammar,
    pharmacy: &Pharmacy,
) -> Result<Vec<CodeWording>, SynthError> {
    let (mut wordings, taken) = by_hand(include_str!("../data/wording.txt"), table, grammar, pharmacy)?;
    let derived: Vec<Vec<String>> =
        table.codes.iter().map(|code| derive::wordings(code.short_title, code.long_title)).collect();
    // A short form that several titles share, or that is another code's synonym, would teach nothing.
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for phrase in derived.iter().flatten() {
        *uses.entry(phrase.to_ascii_lowercase()).or_default() += 1;
    }
    for (id, phrases) in derived.iter().enumerate() {
        if !wordings[id].phrases.is_empty() {
            continue;
        }
        for (place, phrase) in phrases.iter().enumerate() {
            let key = phrase.to_ascii_lowercase();
            // The full title stays even if it equals a synonym of another code: the code needs a name.
            if place == 0 || (uses[&key] == 1 && !taken.contains(&key)) {
                let compiled = grammar.compile(phrase);
                wordings[id].phrases.push(compiled.map_err(|message| SynthError::Data {
                    file: "codes.tsv",
                    line: id + 2,
                    message,
                })?);
            }
        }
    }
    Ok(wordings)
}

/// Parses `wording.txt`; also returns all synonyms in lower case.
fn by_hand(
    text: &str,
    table: &CodeTable,
    grammar: &Grammar,
    pharmacy: &Pharmacy,
) -> Result<(Vec<CodeWording>, BTreeSet<String>), SynthError> {
    let mut wordings = vec![CodeWording::default(); table.codes.len()];
    let mut taken: BTreeMap<String, CodeId> = BTreeMap::new();
    let mut current: Option<CodeId> = None;
    for (index, line) in text.lines().enumerate() {
        let bad = |message: String| SynthError::Data { file: FILE, line: index + 1, message };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        if tag == "@" {
            let id = rest.split_once(' ').and_then(|(system, code)| table.find(parse_system(system)?, code));
            let id = id.ok_or_else(|| bad(format!("{rest} is not in codes.tsv")))?;
            if !wordings[usize::from(id)].phrases.is_empty() {
                return Err(bad(format!("{rest} occurs twice")));
            }
            current = Some(id);
            continue;
        }
        let id = current.ok_or_else(|| bad("expected `@ SYSTEM CODE` first".to_owned()))?;
        let wording = &mut wordings[usize::from(id)];
        match tag {
            "=" => {
                for phrase in split_outside_braces(rest) {
                    wording.phrases.push(grammar.compile(phrase).map_err(bad)?);
                    let other = taken.insert(phrase.to_ascii_lowercase(), id);
                    if other.is_some_and(|other| other != id) {
                        return Err(bad(format!("\"{phrase}\" is the wording of two codes")));
                    }
                }
            }
            "rx" => {
                for name in rest.split(", ") {
                    let drug = pharmacy.drug(name).ok_or_else(|| bad(format!("no drug is called {name}")))?;
                    wording.drugs.push(drug);
                }
            }
            "lab" => {
                for shift in rest.split(", ") {
                    let parsed = pharmacy.shift(shift);
                    let expected = || bad(format!("expected analyte:low-high, found {shift}"));
                    wording.shifts.push(parsed.ok_or_else(expected)?);
                }
            }
            "sign" => {
                for sign in split_outside_braces(rest) {
                    wording.signs.push(grammar.compile(sign).map_err(bad)?);
                }
            }
            _ => return Err(bad(format!("expected @, =, rx, lab or sign, found {tag}"))),
        }
    }
    Ok((wordings, taken.into_keys().collect()))
}

/// Splits at ` | ` that is not inside braces.
fn split_outside_braces(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b'|' if depth == 0 => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::System;
    use crate::grammar::Node;

    fn loaded() -> (CodeTable, Vec<CodeWording>) {
        let table = CodeTable::load().unwrap();
        let grammar = Grammar::load().unwrap();
        let wordings = load(&table, &grammar, &Pharmacy::load().unwrap()).unwrap();
        (table, wordings)
    }

    #[test]
    fn every_code_has_wordings_and_no_two_share_one() {
        let (table, wordings) = loaded();
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (id, wording) in wordings.iter().enumerate() {
            assert!(!wording.phrases.is_empty(), "{}", table.codes[id].code);
            for phrase in &wording.phrases {
                let key = format!("{phrase:?}").to_ascii_lowercase();
                let other = seen.insert(key, id);
                assert!(
                    other.is_none_or(|other| other == id),
                    "{} and {} share a wording",
                    table.codes[id].code,
                    table.codes[other.unwrap_or(0)].code
                );
            }
        }
        let several = wordings.iter().filter(|w| w.phrases.len() >= 3).count();
        assert!(several > table.codes.len() / 2, "{several} codes have three wordings or more");
    }

    #[test]
    fn the_frequent_codes_are_written_by_hand() {
        let (table, wordings) = loaded();
        for id in 0..50 {
            let named = wordings[id].phrases.len() >= 3;
            assert!(named, "{:?} {}", table.codes[id].system, table.codes[id].code);
        }
        let af = table.find(System::Diagnosis, "42731").unwrap();
        assert!(wordings[usize::from(af)].phrases.contains(&vec![Node::Text("AFib".into())]));
        assert!(!wordings[usize::from(af)].drugs.is_empty() && !wordings[usize::from(af)].signs.is_empty());
    }
}
