//! A small text grammar: rules with several wordings each, slots the program fills, alternatives and number
//! ranges. `data/templates.txt` describes the notation.

mod parse;
mod rule;

pub(crate) use rule::Rule;

use crate::random::Stream;

/// One piece of a wording.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// Plain text.
    Text(Box<str>),
    /// Filled by the program.
    Slot(Slot),
    /// One wording of a rule, by its place in [`Grammar::rules`].
    Rule(u16),
    /// One of several texts.
    Any(Vec<Wording>),
    /// A whole number, or one with a decimal if `tenths`.
    Number {
        /// Lowest, in units or tenths.
        low: i64,
        /// Highest, in units or tenths.
        high: i64,
        /// Whether the bounds count tenths.
        tenths: bool,
    },
}

/// A wording: its pieces in order.
pub(crate) type Wording = Vec<Node>;

macro_rules! slots {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// What the program fills in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Slot { $(#[doc = concat!("`{", $name, "}`")] $variant),+ }

        impl Slot {
            /// The slot called `name`.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

slots! {
    Phrase = "p", PhraseCapital = "P",
    Age = "age", Man = "sexword", Male = "M", Mister = "Mr",
    He = "he", HeCapital = "He", His = "his", HisCapital = "His", Him = "him",
    Date = "date", Year = "year", Hospital = "hosp", LastName = "last", FirstName = "first",
    Drug = "drug", DrugCapital = "Drug", Dose = "dose", Unit = "unit", Form = "form", Schedule = "sched",
}

/// Fills slots; also the source of every random choice.
pub(crate) trait Scene {
    /// Appends the slot's text.
    fn fill(&mut self, slot: Slot, out: &mut String);
    /// The random numbers of this note.
    fn stream(&mut self) -> &mut Stream;
}

/// All rules.
pub(crate) struct Grammar {
    /// Wordings of each rule; those of [`Rule`] come first, in its order.
    rules: Vec<Vec<Wording>>,
    names: Vec<String>,
}

impl Grammar {
    /// Appends one wording of `rule`.
    pub(crate) fn say(&self, rule: Rule, scene: &mut dyn Scene, out: &mut String) {
        self.say_numbered(rule as u16, scene, out);
    }

    /// The wordings of `rule`, for those that are used one after the other.
    pub(crate) fn wordings(&self, rule: Rule) -> &[Wording] {
        &self.rules[rule as usize]
    }

    fn say_numbered(&self, rule: u16, scene: &mut dyn Scene, out: &mut String) {
        let wordings = &self.rules[usize::from(rule)];
        let choice = scene.stream().below(wordings.len());
        self.write(&wordings[choice], scene, out);
    }

    /// Appends one wording.
    pub(crate) fn write(&self, wording: &[Node], scene: &mut dyn Scene, out: &mut String) {
        for node in wording {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Slot(slot) => scene.fill(*slot, out),
                Node::Rule(rule) => self.say_numbered(*rule, scene, out),
                Node::Any(choices) => {
                    let choice = scene.stream().below(choices.len());
                    self.write(&choices[choice], scene, out);
                }
                Node::Number { low, high, tenths } => {
                    let value = scene.stream().between(*low, *high);
                    push_number(out, value, if *tenths { 1 } else { 0 });
                }
            }
        }
    }
}

/// Appends `value` with the last `decimals` digits behind the point.
pub(crate) fn push_number(out: &mut String, value: i64, decimals: u32) {
    use std::fmt::Write as _;
    let scale = 10i64.pow(decimals);
    // Writing into a String cannot fail.
    let _ = match decimals {
        0 => write!(out, "{value}"),
        _ => write!(out, "{}.{:0width$}", value / scale, value % scale, width = decimals as usize),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    struct Plain(Stream);

    impl Scene for Plain {
        fn fill(&mut self, slot: Slot, out: &mut String) {
            let names_it = matches!(slot, Slot::Phrase | Slot::PhraseCapital);
            out.push_str(if names_it { "asthma" } else { "x" });
        }
        fn stream(&mut self) -> &mut Stream {
            &mut self.0
        }
    }

    #[test]
    fn the_built_in_grammar_loads_and_every_rule_says_something() {
        let grammar = Grammar::load().unwrap();
        let mut scene = Plain(Stream::new(1, Purpose::Report, 0));
        for rule in Rule::ALL {
            for wording in grammar.wordings(*rule) {
                let mut out = String::new();
                grammar.write(wording, &mut scene, &mut out);
                assert!(!out.is_empty() && !out.contains(['{', '}', '|']), "{}: {out}", rule.name());
            }
        }
    }

    #[test]
    fn every_way_to_write_about_a_code_names_it() {
        let grammar = Grammar::load().unwrap();
        let mut scene = Plain(Stream::new(1, Purpose::Report, 0));
        for rule in Rule::ALL.iter().filter(|r| r.is_about_a_code()) {
            for wording in grammar.wordings(*rule) {
                let mut out = String::new();
                grammar.write(wording, &mut scene, &mut out);
                assert!(out.contains("asthma"), "{}: {out}", rule.name());
            }
        }
    }
}
