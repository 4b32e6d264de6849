//! Wordings made from the official titles of codes that have none written by hand.

/// Words clinicians shorten, whole words in lower case.
const ABBREVIATIONS: &[(&str, &str)] = &[
    ("with", "w/"),
    ("without", "w/o"),
    ("acute", "ac."),
    ("chronic", "chr."),
    ("history", "hx"),
    ("fracture", "fx"),
    ("disease", "dz"),
    ("infection", "infxn"),
    ("syndrome", "synd"),
    ("hemorrhage", "bleed"),
    ("left", "L"),
    ("right", "R"),
    ("bilateral", "b/l"),
    ("replacement", "repl"),
    ("insertion", "placement"),
    ("hypertension", "htn"),
    ("diabetes", "DM"),
    ("disorder", "d/o"),
    ("disorders", "d/o"),
    ("complication", "compl"),
    ("complications", "compl"),
    ("abdominal", "abd"),
    ("malignant", "malig"),
    ("secondary", "2ndary"),
    ("postoperative", "post-op"),
    ("gastrointestinal", "GI"),
    ("neoplasm", "cancer"),
    ("ventricular", "vent."),
    ("coronary", "cor."),
    ("vertebra", "vert"),
    ("and", "&"),
    ("temporary", "temp"),
    ("unspecified", "unspec"),
];

/// Phrases shortened before single words are.
const REPHRASED: &[(&str, &str)] = &[
    ("malignant neoplasm of", "cancer of"),
    ("secondary malignant neoplasm of", "metastasis to"),
    ("personal history of", "h/o"),
    ("family history of", "FH of"),
    ("long-term (current) use of", "chronic use of"),
    ("closed fracture of", "closed fx of"),
    ("other postoperative", "post-op"),
    ("benign neoplasm of", "benign tumor of"),
    ("congenital", "inborn"),
    ("acquired absence of", "s/p removal of"),
    ("adverse effect in therapeutic use", "drug reaction"),
    ("percutaneous", "perc"),
    ("encounter for", "visit for"),
    ("due to", "d/t"),
    ("secondary to", "2/2"),
];

/// Parts that say nothing, left out of the short forms.
const EMPTY: &[&str] = &[
    ", not elsewhere classified",
    ", not otherwise specified",
    ", unspecified type",
    ", unspecified as to episode of care",
    ", unspecified site",
    ", unspecified",
    " not elsewhere classified",
    " unspecified",
    "unspecified ",
    "other and unspecified ",
    "other specified ",
    ", other",
    " nec",
    " nos",
];

/// Wordings of a code with these official titles, the plainest first. All are in lower case but for
/// abbreviations; the first one is unique to the code as its title is.
pub(crate) fn wordings(short_title: &str, long_title: &str) -> Vec<String> {
    let full = lower(&without_brackets(long_title));
    let plain = cleaned(&full);
    let mut wordings = vec![full];
    let mut add = |text: String| {
        if text.len() >= 4 && !wordings.contains(&text) {
            wordings.push(text);
        }
    };
    let rephrased = REPHRASED.iter().fold(plain.clone(), |text, (from, to)| text.replace(from, to));
    add(abbreviated(&rephrased));
    if let Some(turned) = turned_around(&plain) {
        add(turned);
    }
    add(rephrased);
    add(plain);
    add(cleaned(&lower(short_title)));
    wordings
}

/// Drops (...) and [...].
fn without_brackets(title: &str) -> String {
    let mut depth = 0;
    let mut out = String::with_capacity(title.len());
    for c in title.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ if depth > 0 => {}
            // A bracket taken out of the middle leaves two spaces.
            ' ' if out.is_empty() || out.ends_with(' ') => {}
            _ => out.push(c),
        }
    }
    out.trim_end().replace(" ,", ",")
}

/// Lower case, but for acronyms, numerals and single capital letters ("hepatitis C", "stage III").
fn lower(title: &str) -> String {
    let words = title.split(' ').map(|word| {
        let capitals = word.bytes().filter(u8::is_ascii_uppercase).count();
        if capitals >= 2 || (word.len() == 1 && word != "A") || word.bytes().any(|b| b.is_ascii_digit()) {
            word.to_owned()
        } else {
            word.to_ascii_lowercase()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn cleaned(text: &str) -> String {
    let mut text = text.to_owned();
    for empty in EMPTY {
        let at_word = |at: usize, text: &str| {
            let end = at + empty.len();
            empty.ends_with(' ') || text.as_bytes().get(end).is_none_or(|b| !b.is_ascii_alphanumeric())
        };
        // Lower-case comparison: short titles write NOS and NEC in capitals.
        while let Some(at) = text.to_ascii_lowercase().find(empty) {
            if !at_word(at, &text) {
                break;
            }
            text.replace_range(at..at + empty.len(), "");
        }
    }
    text.trim_matches([' ', ',']).to_owned()
}

fn abbreviated(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let (stem, tail) = match word.strip_suffix(',') {
            Some(stem) => (stem, ","),
            None => (word, ""),
        };
        match ABBREVIATIONS.iter().find(|(long, _)| *long == stem) {
            Some((_, short)) => format!("{short}{tail}"),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// "asthma, chronic" -> "chronic asthma"; "biopsy of lung" -> "lung biopsy".
fn turned_around(text: &str) -> Option<String> {
    if let Some((head, tail)) = text.split_once(", ") {
        let simple = !tail.contains(',') && tail.split(' ').count() <= 3;
        return (simple && !tail.starts_with("with")).then(|| format!("{tail} {head}"));
    }
    let (head, tail) = text.split_once(" of ")?;
    let simple = head.split(' ').count() <= 3 && tail.split(' ').count() <= 2 && !tail.contains(" of ");
    simple.then(|| format!("{tail} {head}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_reworded() {
        let made = wordings("Malign neopl prostate", "Malignant neoplasm of prostate");
        assert_eq!(made[0], "malignant neoplasm of prostate");
        assert!(made.contains(&"cancer of prostate".to_owned()), "{made:?}");
        assert!(made.contains(&"prostate malignant neoplasm".to_owned()), "{made:?}");

        let made = wordings("Asthma NOS", "Asthma, unspecified type, unspecified");
        assert!(made.contains(&"asthma".to_owned()), "{made:?}");

        let made = wordings("Hpt C acute", "Acute hepatitis C with hepatic coma");
        assert!(made.contains(&"ac. hepatitis C w/ hepatic coma".to_owned()), "{made:?}");

        let made = wordings("PTCA", "Percutaneous transluminal coronary angioplasty [PTCA]");
        assert_eq!(made[0], "percutaneous transluminal coronary angioplasty");
    }

    #[test]
    fn words_that_only_begin_like_an_empty_part_stay() {
        assert_eq!(cleaned("repair of neck necrosis"), "repair of neck necrosis");
        assert_eq!(cleaned("gastritis NEC"), "gastritis");
    }
}
