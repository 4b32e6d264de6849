//! The ICD-9-CM codes the corpus draws from: real codes with their official titles (public domain, CMS),
//! ordered by frequency.

use std::collections::HashMap;

use crate::error::SynthError;
use crate::tsv;

/// Codes in `data/codes.tsv`.
pub(crate) const CODES_AVAILABLE: usize = 1_043;

/// Place of a code in the table, which is also its frequency rank from 0.
pub(crate) type CodeId = u16;

/// Which table a code belongs to. Undotted digits alone do not tell: 396.1 and 39.61 are both `3961`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum System {
    Diagnosis,
    Procedure,
}

/// How a code is written about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A long-standing condition: listed in the history, kept across a subject's admissions.
    Chronic,
    /// A problem of this stay.
    Acute,
    /// A V code: history, devices in place, long-term drugs.
    Status,
    /// An E code: circumstances of an injury or reaction.
    External,
    /// A condition of the newborn.
    Newborn,
    /// A procedure.
    Procedure,
}

/// How codes that exclude one another are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// At most one code of the family.
    Exclusive,
    /// Several may stand together.
    Member,
    /// Gives way to any `Member`, and at most one of these.
    Yields,
}

/// One code.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) system: System,
    /// Undotted, as MIMIC stores it.
    pub(crate) code: &'static str,
    /// Clinical theme, such as `car`.
    pub(crate) cluster: &'static str,
    pub(crate) class: Class,
    /// Index of the family of related codes, and the part this one plays in it.
    pub(crate) family: Option<(u16, Membership)>,
    /// The only sex it fits (`F` or `M`).
    pub(crate) sex: Option<char>,
    /// Whether the D_ICD tables describe it (MIMIC's miss a few).
    pub(crate) in_dictionary: bool,
    pub(crate) short_title: &'static str,
    pub(crate) long_title: &'static str,
}

/// `given` makes `code` likely.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) code: CodeId,
    pub(crate) probability: f64,
}

/// All codes and how they go together.
pub(crate) struct CodeTable {
    pub(crate) codes: Vec<Code>,
    /// For every code, those it makes likely.
    pub(crate) links: Vec<Vec<Link>>,
    by_name: HashMap<(System, &'static str), CodeId>,
}

impl CodeTable {
    /// Reads the built-in tables.
    pub(crate) fn load() -> Result<Self, SynthError> {
        let mut codes = Vec::with_capacity(CODES_AVAILABLE);
        let mut by_name = HashMap::new();
        let mut families: Vec<&str> = Vec::new();
        for row in tsv::rows("codes.tsv", include_str!("../data/codes.tsv"), 9)? {
            let system = parse_system(row.text(0)).ok_or_else(|| row.bad("expected system D or P"))?;
            let class = match row.text(3) {
                "chronic" => Class::Chronic,
                "acute" => Class::Acute,
                "status" => Class::Status,
                "external" => Class::External,
                "newborn" => Class::Newborn,
                "procedure" => Class::Procedure,
                _ => return Err(row.bad("unknown class")),
            };
            let family = match row.text(4).split_once(':') {
                None => None,
                Some((kind, name)) => {
                    let membership = match kind {
                        "x" => Membership::Exclusive,
                        "m" => Membership::Member,
                        "y" => Membership::Yields,
                        _ => return Err(row.bad("expected a family such as x:name, m:name or y:name")),
                    };
                    let index = families.iter().position(|f| *f == name).unwrap_or_else(|| {
                        families.push(name);
                        families.len() - 1
                    });
                    Some((index as u16, membership))
                }
            };
            let code = Code {
                system,
                code: row.text(1),
                cluster: row.text(2),
                class,
                family,
                sex: row.text(5).chars().next().filter(|c| *c != '-'),
                in_dictionary: row.text(6) == "yes",
                short_title: row.text(7),
                long_title: row.text(8),
            };
            if by_name.insert((system, code.code), codes.len() as CodeId).is_some() {
                return Err(row.bad("this code occurs twice"));
            }
            codes.push(code);
        }
        let mut table = Self { links: vec![Vec::new(); codes.len()], codes, by_name };
        for row in tsv::rows("links.tsv", include_str!("../data/links.tsv"), 5)? {
            let find = |column: usize| {
                parse_system(row.text(column))
                    .and_then(|system| table.find(system, row.text(column + 1)))
                    .ok_or_else(|| row.bad(format!("{} is not in codes.tsv", row.text(column + 1))))
            };
            let (given, code, probability) = (find(0)?, find(2)?, row.number(4)?);
            table.links[usize::from(given)].push(Link { code, probability });
        }
        Ok(table)
    }

    /// The id of a code.
    pub(crate) fn find(&self, system: System, code: &str) -> Option<CodeId> {
        self.by_name.get(&(system, code)).copied()
    }

    /// The code of this id.
    pub(crate) fn get(&self, id: CodeId) -> &Code {
        &self.codes[usize::from(id)]
    }

    /// Whether two codes are variants of one thing: the same family, or the same three-digit category.
    pub(crate) fn related(&self, a: CodeId, b: CodeId) -> bool {
        let (a, b) = (self.get(a), self.get(b));
        let family = match (a.family, b.family) {
            (Some((a, _)), Some((b, _))) => a == b,
            _ => false,
        };
        family || (a.system == b.system && a.code.get(..3) == b.code.get(..3))
    }
}

/// `D` or `P`.
pub(crate) fn parse_system(text: &str) -> Option<System> {
    match text {
        "D" => Some(System::Diagnosis),
        "P" => Some(System::Procedure),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_promised_kinds_of_codes() {
        let table = CodeTable::load().unwrap();
        assert_eq!(table.codes.len(), CODES_AVAILABLE);
        let has = |system, code| table.find(system, code).is_some();
        assert!(has(System::Procedure, "0066") && has(System::Procedure, "0331"), "leading zeros");
        for colliding in ["3961", "8604", "4241", "5119", "311"] {
            assert!(has(System::Diagnosis, colliding) && has(System::Procedure, colliding), "{colliding}");
        }
        let missing = table.codes.iter().filter(|c| !c.in_dictionary).count();
        assert!((10..40).contains(&missing), "{missing} codes are missing from the dictionaries");
        // Any useful prefix of the ranks holds procedures, status codes and conditions alike.
        let top = &table.codes[..50];
        assert!(top.iter().filter(|c| c.system == System::Procedure).count() >= 8);
        assert!(top.iter().any(|c| c.class == Class::Status));
    }

    #[test]
    fn variants_of_one_thing_are_related() {
        let table = CodeTable::load().unwrap();
        let id = |code| table.find(System::Diagnosis, code).unwrap();
        assert!(table.related(id("25000"), id("25040")));
        assert!(table.related(id("4280"), id("42823")));
        assert!(table.related(id("3051"), id("V1582")), "same family");
        assert!(!table.related(id("4280"), id("4019")));
    }
}
