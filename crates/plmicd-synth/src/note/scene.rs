//! Fills the slots of the grammar for one note: the person, the dates, the code and the drug at hand.

use std::fmt::Write as _;

use crate::admission::Admission;
use crate::codes::CodeId;
use crate::grammar::{Scene, Slot};
use crate::random::Stream;
use crate::world::World;

/// State while one note is written.
pub(crate) struct NoteScene<'a> {
    pub(crate) world: &'a World,
    pub(crate) admission: &'a Admission,
    pub(crate) stream: Stream,
    phrase: String,
    drug: u16,
}

impl<'a> NoteScene<'a> {
    /// A scene that draws from `stream`.
    pub(crate) fn new(world: &'a World, admission: &'a Admission, stream: Stream) -> Self {
        Self { world, admission, stream, phrase: String::new(), drug: 0 }
    }

    /// Draws the wording that `{p}` and `{P}` stand for until the next call.
    pub(crate) fn set_code(&mut self, code: CodeId) {
        let world = self.world;
        let phrases = &world.wordings[usize::from(code)].phrases;
        let choice = self.stream.below(phrases.len());
        let mut phrase = std::mem::take(&mut self.phrase);
        phrase.clear();
        world.grammar.write(&phrases[choice], self, &mut phrase);
        if self.stream.chance(world.config.misspelled) {
            misspell(&mut phrase, &mut self.stream);
        }
        self.phrase = phrase;
    }

    /// The drug that `{drug}` and its companions stand for until the next call.
    pub(crate) fn set_drug(&mut self, drug: u16) {
        self.drug = drug;
    }

    fn female(&self) -> bool {
        self.admission.sex == 'F'
    }

    fn pick_sex(&self, female: &'static str, male: &'static str) -> &'static str {
        if self.female() { female } else { male }
    }
}

impl Scene for NoteScene<'_> {
    fn fill(&mut self, slot: Slot, out: &mut String) {
        let world = self.world;
        let drug = &world.pharmacy.drugs[usize::from(self.drug)];
        // Writing into a String cannot fail.
        let _ = match slot {
            Slot::Phrase => out.write_str(&self.phrase),
            Slot::PhraseCapital => {
                push_capitalized(out, &self.phrase);
                Ok(())
            }
            Slot::Age => match self.admission.age() {
                90.. => out.write_str("[**Age over 90 **]"),
                age => write!(out, "{age}"),
            },
            Slot::Man => out.write_str(self.pick_sex("woman", "man")),
            Slot::Male => out.write_str(self.pick_sex("F", "M")),
            Slot::Mister => out.write_str(self.pick_sex("Ms", "Mr")),
            Slot::He => out.write_str(self.pick_sex("she", "he")),
            Slot::HeCapital => out.write_str(self.pick_sex("She", "He")),
            Slot::His => out.write_str(self.pick_sex("her", "his")),
            Slot::HisCapital => out.write_str(self.pick_sex("Her", "His")),
            Slot::Him => out.write_str(self.pick_sex("her", "him")),
            Slot::Date => {
                let stay = self.admission.discharged.0 - self.admission.admitted.0;
                let day = self.stream.between(0, stay);
                self.admission.admitted.plus(day).write_bracketed(out);
                Ok(())
            }
            Slot::Year => write!(out, "{}", self.admission.admitted.civil().0 - self.stream.between(1, 20)),
            Slot::Hospital => write!(out, "[**Hospital1 {}**]", self.stream.between(1, 40)),
            Slot::LastName if self.stream.chance(0.7) => {
                write!(out, "[**Last Name (NamePattern1) {}**]", self.stream.between(1, 4_999))
            }
            Slot::LastName => write!(out, "[**Last Name (un) {}**]", self.stream.between(1, 999)),
            Slot::FirstName => {
                write!(out, "[**First Name8 (NamePattern2) {}**]", self.stream.between(1, 999))
            }
            Slot::Drug => out.write_str(drug.name),
            Slot::DrugCapital => {
                push_capitalized(out, drug.name);
                Ok(())
            }
            Slot::Dose => {
                let dose = *self.stream.pick(&drug.doses);
                out.write_str(dose)
            }
            Slot::Unit => out.write_str(drug.unit),
            Slot::Form => out.write_str(drug.form),
            Slot::Schedule => {
                let schedule = *self.stream.pick(&drug.schedules);
                out.write_str(schedule)
            }
        };
    }

    fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

fn push_capitalized(out: &mut String, text: &str) {
    let mut chars = text.chars();
    if let Some(first) = chars.next() {
        out.extend(first.to_uppercase());
        out.push_str(chars.as_str());
    }
}

/// Swaps two neighbouring letters of one long word, or drops one.
fn misspell(phrase: &mut String, stream: &mut Stream) {
    let mut words: Vec<&str> = phrase.split(' ').collect();
    let long: Vec<usize> = (0..words.len())
        .filter(|i| words[*i].len() >= 6 && words[*i].bytes().all(|b| b.is_ascii_alphabetic()))
        .collect();
    if long.is_empty() {
        return;
    }
    let word = *stream.pick(&long);
    let mut letters = words[word].as_bytes().to_vec();
    let at = 1 + stream.below(letters.len() - 3);
    if stream.chance(0.6) {
        letters.swap(at, at + 1);
    } else {
        letters.remove(at);
    }
    let wrong: String = letters.into_iter().map(char::from).collect();
    words[word] = &wrong;
    *phrase = words.join(" ");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn misspelling_touches_one_long_word() {
        let mut stream = Stream::new(1, Purpose::Report, 0);
        let mut phrase = "acute renal insufficiency".to_owned();
        misspell(&mut phrase, &mut stream);
        assert!(phrase.starts_with("acute renal ") && phrase != "acute renal insufficiency", "{phrase}");
        let mut short = "AFib".to_owned();
        misspell(&mut short, &mut stream);
        assert_eq!(short, "AFib");
    }
}
