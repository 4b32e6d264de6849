//! Text of a note: the published cleaning rules, reproduced exactly.
//!
//! Python's idea of a word character, of a numeric string and of lower case decides what a corpus
//! looks like, so its tables are pinned here (`unicode_tables.rs`) and do not move with the Rust release.

mod caml;
mod deidentified;
mod edin;
mod python;
#[rustfmt::skip]
mod unicode_tables;

pub use deidentified::Deidentified;
use plmicd_data::TextForm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a note's text is cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TextCleaning {
    /// CAML's tokens (Mullenbach et al. 2018): runs of word characters, purely numeric ones dropped,
    /// lower-cased, joined by one space.
    #[default]
    Caml,
    /// The same tokens, case kept.
    CamlCased,
    /// As in the source: cased, with punctuation and line ends.
    Raw,
    /// As in the source, but lower-cased: punctuation and line ends stay.
    RawLower,
    /// Edin et al. 2023: lower-cased, everything but ASCII letters and digits replaced by a space,
    /// free-standing numbers dropped (those at the very start or end of a note survive).
    Edin,
}

impl TextCleaning {
    const ALL: [Self; 5] = [Self::Caml, Self::CamlCased, Self::Raw, Self::RawLower, Self::Edin];

    /// Its name in configs and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caml => "caml",
            Self::CamlCased => "caml-cased",
            Self::Raw => "raw",
            Self::RawLower => "raw-lower",
            Self::Edin => "edin",
        }
    }

    /// The one of this name; what was expected otherwise.
    pub fn from_name(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.as_str() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("unknown form of texts `{name}`; expected one of {names}")
        })
    }

    /// The cleaned text. Time and space are linear in the note's length.
    pub fn apply(self, text: &str) -> String {
        match self {
            Self::Caml => caml::clean(text, false),
            Self::CamlCased => caml::clean(text, true),
            Self::Raw => text.to_owned(),
            Self::RawLower => text.to_lowercase(),
            Self::Edin => edin::clean(text),
        }
    }
}

/// Everything that is done to a note's text.
#[derive(Clone, Copy, Debug)]
pub struct TextRules {
    /// How it is cleaned, after the marks of de-identification were seen to.
    pub cleaning: TextCleaning,
    /// What becomes of those marks.
    pub deidentified: Deidentified,
    /// Whether `___` is such a mark, as in MIMIC-IV; elsewhere it is a line to fill in.
    pub blanks: bool,
}

impl TextRules {
    /// The same for a file that travels with the notes.
    pub fn form(self) -> TextForm {
        TextForm::new(self.cleaning.as_str(), self.deidentified.as_str(), self.blanks)
    }

    /// The inverse of [`Self::form`]; what is unknown otherwise.
    pub fn from_form(form: &TextForm) -> Result<Self, String> {
        let cleaning = TextCleaning::from_name(&form.cleaning)?;
        let deidentified = Deidentified::ALL.into_iter().find(|one| one.as_str() == form.deidentified);
        let deidentified = deidentified
            .ok_or_else(|| format!("unknown way with marks of de-identification `{}`", form.deidentified))?;
        Ok(Self { cleaning, deidentified, blanks: form.blanks })
    }

    /// The text as it stands in the artifact. Time and space are linear in its length.
    pub fn apply(self, text: &str) -> String {
        self.cleaning.apply(&self.deidentified.apply(text, self.blanks))
    }

    /// A note of several texts that were cleaned one by one. The rule of Edin et al. is for the whole: what stood at a text's
    /// edge stands inside the note.
    pub fn joined(self, text: String, texts: usize) -> String {
        match self.cleaning {
            TextCleaning::Edin if texts > 1 => edin::clean(&text),
            _ => text,
        }
    }
}

/// Number of words: pieces between white space.
pub fn count_words(text: &str) -> u64 {
    if !text.is_ascii() {
        return text.split_whitespace().count() as u64;
    }
    // The white space of ASCII as Unicode has it: the vertical tab as well.
    let blank = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let bytes = text.as_bytes();
    let Some(&first) = bytes.first() else { return 0 };
    // A word starts where a blank is followed by none. Sums that fit a byte let the compiler use vector instructions.
    let starts = |before: &[u8], here: &[u8]| -> u8 {
        before.iter().zip(here).map(|(&before, &here)| u8::from(blank(before) & !blank(here))).sum()
    };
    let pairs = bytes[..bytes.len() - 1].chunks(255).zip(bytes[1..].chunks(255));
    u64::from(!blank(first)) + pairs.map(|(before, here)| u64::from(starts(before, here))).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn edges_of_texts_are_no_edges_of_the_note() {
        let rules = |cleaning| super::TextRules { cleaning, deidentified: Default::default(), blanks: false };
        let texts = ["Patient seen. Creatinine 2", "12 hours later, stable 7"];
        let joined = |cleaning| {
            let cleaned = texts.map(|text| rules(cleaning).apply(text));
            rules(cleaning).joined(cleaned.join(" "), texts.len())
        };
        let whole = rules(super::TextCleaning::Edin).apply(&texts.join(" "));
        assert_eq!(joined(super::TextCleaning::Edin), whole);
        assert_eq!(whole, "patient seen creatinine hours later stable 7");
        assert_eq!(joined(super::TextCleaning::Caml), "patient seen creatinine hours later stable");
        assert_eq!(rules(super::TextCleaning::Edin).joined("a 1 b".to_owned(), 1), "a 1 b");
    }

    #[test]
    fn rules_come_back_from_their_form_by_the_names_of_the_settings() {
        for cleaning in super::TextCleaning::ALL {
            for deidentified in super::Deidentified::ALL {
                let rules = super::TextRules { cleaning, deidentified, blanks: true };
                let form = rules.form();
                let back = super::TextRules::from_form(&form).expect("known names");
                assert_eq!((back.cleaning, back.deidentified, back.blanks), (cleaning, deidentified, true));
                assert_eq!(serde_json::json!(cleaning), form.cleaning);
                assert_eq!(serde_json::json!(deidentified), form.deidentified);
            }
        }
        let unknown = plmicd_data::TextForm::new("shouted", "keep", false);
        assert!(super::TextRules::from_form(&unknown).expect_err("unknown").contains("caml-cased"));
    }

    proptest! {
        #[test]
        fn words_are_what_stands_between_white_space(text in "[ -~\\t\\n\\x0b\\x0c\\r\\x1cé\u{a0}]{0,60}") {
            prop_assert_eq!(super::count_words(&text), text.split_whitespace().count() as u64);
        }
    }
}
