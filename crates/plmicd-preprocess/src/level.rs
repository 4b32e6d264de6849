//! Labels coarser than codes: categories and chapters.

use plmicd_data::IcdCode;

use crate::config::CodeLevel;
use crate::corpus::{CodeBook, CodeId, Corpus};

/// Puts a category or chapter in place of every code; a note has each once, where its first code stood. Codes without a
/// chapter (other systems, outside every range) are left out, counted.
pub fn regroup(level: CodeLevel, corpus: &mut Corpus) {
    if level == CodeLevel::Full {
        return;
    }
    let mut groups = CodeBook::default();
    let mut group_of: Vec<Option<CodeId>> = Vec::with_capacity(corpus.codes.len());
    for id in 0..corpus.codes.len() as CodeId {
        let (code, system) = (corpus.codes.code(id), corpus.codes.system(id));
        let parsed = IcdCode::parse(system, code);
        let group = match level {
            CodeLevel::Full | CodeLevel::Category => Some(match parsed {
                Ok(parsed) => parsed.category().to_owned(),
                Err(_) => code.split('.').next().unwrap_or(code).to_owned(),
            }),
            CodeLevel::Chapter => parsed.ok().and_then(|parsed| parsed.chapter()).map(|(range, title)| {
                corpus.descriptions.add(system, &range, title);
                range
            }),
        };
        let group = group.map(|group| groups.intern(group, system));
        if let (Some(group), Some(place)) = (group, corpus.codes.place(id)) {
            groups.stands_at(group, place);
        }
        group_of.push(group);
    }
    for note in &mut corpus.notes {
        let mut kept: Vec<CodeId> = Vec::with_capacity(note.codes.len());
        for group in note.codes.iter().filter_map(|&id| group_of[id as usize]) {
            if !kept.contains(&group) {
                kept.push(group);
            }
        }
        note.codes = kept;
    }
    let without = group_of.iter().filter(|group| group.is_none()).count() as u64;
    corpus.exclusions.add(without, "codes", "outside every chapter");
    corpus.codes = groups;
}
