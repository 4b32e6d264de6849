//! A report before it is printed: items by section, in one text buffer.

use std::ops::Range;

use super::scene::NoteScene;
use super::section::Section;
use crate::grammar::Rule;

/// Keys below this one are never drawn.
pub(crate) const FIRST_FREE_KEY: u32 = 1 << 16;

/// Items of all sections and the words they make.
pub(crate) struct Draft {
    text: String,
    sections: Vec<Vec<Item>>,
    words: usize,
}

/// One sentence, list entry or line.
struct Item {
    /// Items of a section are printed in the order of their keys.
    key: u32,
    range: Range<usize>,
}

impl Draft {
    /// Nothing yet, with room for about `words` words.
    pub(crate) fn new(words: usize) -> Self {
        Self {
            text: String::with_capacity(words * 8),
            sections: Section::ALL.iter().map(|_| Vec::new()).collect(),
            words: 0,
        }
    }

    /// Adds what `write` appends, at a random place of the section.
    pub(crate) fn add(
        &mut self,
        section: Section,
        scene: &mut NoteScene<'_>,
        write: impl FnOnce(&mut NoteScene<'_>, &mut String),
    ) {
        let key = scene.stream.bits().max(FIRST_FREE_KEY);
        self.add_at(key, section, scene, write);
    }

    /// As [`Draft::add`], with the place among the items of the section: below [`FIRST_FREE_KEY`] stands
    /// before all items without a fixed place.
    pub(crate) fn add_at(
        &mut self,
        key: u32,
        section: Section,
        scene: &mut NoteScene<'_>,
        write: impl FnOnce(&mut NoteScene<'_>, &mut String),
    ) {
        let start = self.text.len();
        write(scene, &mut self.text);
        self.words += self.text[start..].split_ascii_whitespace().count();
        self.sections[section as usize].push(Item { key, range: start..self.text.len() });
    }

    /// Adds one wording of `rule` at a random place of the section.
    pub(crate) fn say(&mut self, section: Section, rule: Rule, scene: &mut NoteScene<'_>) {
        self.add(section, scene, |scene, out| {
            let world = scene.world;
            world.grammar.say(rule, scene, out);
        });
    }

    /// Words of all items so far.
    pub(crate) fn words(&self) -> usize {
        self.words
    }

    /// Number of items of a section.
    pub(crate) fn count(&self, section: Section) -> usize {
        self.sections[section as usize].len()
    }

    /// The items of a section in their printing order.
    pub(crate) fn items(&mut self, section: Section) -> impl ExactSizeIterator<Item = &str> {
        let items = &mut self.sections[section as usize];
        // Stable: items with the same key keep the order in which they were added.
        items.sort_by_key(|item| item.key);
        items.iter().map(|item| &self.text[item.range.clone()])
    }
}
