//! `stats.json` of token shards: fragmentation and lengths.

use std::collections::BTreeMap;

use plmicd_data::{SpecialTokens, Split, Summary, TokenSplitStats, TokenStats, TokenizedNote};
use plmicd_pipeline::StageContext;

/// Lengths in tokens at which models commonly cut notes.
const LIMITS: [u64; 3] = [512, 3072, 6144];

#[derive(Default)]
struct Counts {
    words: Vec<u64>,
    tokens: Vec<u64>,
    labels: Vec<u64>,
    unknown: u64,
}

/// Gathers counts note by note.
pub struct StatsBuilder {
    special: SpecialTokens,
    splits: BTreeMap<Split, Counts>,
}

impl StatsBuilder {
    /// For a tokenizer with these special tokens.
    pub fn new(special: SpecialTokens) -> Self {
        Self { special, splits: BTreeMap::new() }
    }

    /// Counts a note.
    pub fn add(&mut self, split: Split, note: &TokenizedNote) {
        let counts = self.splits.entry(split).or_default();
        counts.words.push(u64::from(note.words));
        counts.tokens.push(note.tokens.len() as u64);
        counts.labels.push(note.labels.len() as u64);
        if let Some(unk) = self.special.unk {
            counts.unknown += note.tokens.iter().filter(|&&id| id == unk).count() as u64;
        }
    }

    /// The file's content.
    pub fn finish(self) -> TokenStats {
        let splits = self.splits.into_iter().map(|(split, counts)| (split, counts.into_stats())).collect();
        TokenStats { vocab_size: self.special.vocab_size as u64, splits }
    }
}

impl Counts {
    fn into_stats(self) -> TokenSplitStats {
        let tokens = Summary::of(self.tokens.clone());
        let words = Summary::of(self.words);
        TokenSplitStats {
            notes: self.tokens.len() as u64,
            fragmentation: tokens.total as f64 / words.total.max(1) as f64,
            share_beyond: LIMITS
                .into_iter()
                .map(|limit| (limit, share_beyond(&self.tokens, limit)))
                .collect(),
            unknown_rate: self.unknown as f64 / tokens.total.max(1) as f64,
            unknown_tokens: self.unknown,
            words,
            tokens,
            labels: Summary::of(self.labels),
        }
    }
}

/// Share of the notes with more than `limit` tokens.
fn share_beyond(tokens: &[u64], limit: u64) -> f64 {
    tokens.iter().filter(|&&count| count > limit).count() as f64 / tokens.len().max(1) as f64
}

/// One line a split for the log.
pub fn report(stats: &TokenStats, context: &StageContext<'_>) {
    for (split, counts) in &stats.splits {
        let beyond: Vec<String> = counts
            .share_beyond
            .iter()
            .map(|(limit, share)| format!("{:.1} % over {limit}", 100.0 * share))
            .collect();
        context.note(format!(
            "{split}: {} notes, {} tokens, {:.3} a word; {}",
            counts.notes,
            counts.tokens.total,
            counts.fragmentation,
            beyond.join(", ")
        ));
    }
}
