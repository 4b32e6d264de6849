//! Sets text as MIMIC's notes are set: lines wrapped at about 75 columns, blank lines between sections.

use super::section::Setting;

/// Appends `text` wrapped at `width` columns, the first line behind `lead`, and a line end.
pub(crate) fn wrap(out: &mut String, lead: &str, text: &str, width: usize) {
    out.push_str(lead);
    let mut column = lead.len();
    let mut first = true;
    for word in text.split_ascii_whitespace() {
        if !first {
            if column + 1 + word.len() > width {
                out.push('\n');
                column = 0;
            } else {
                out.push(' ');
                column += 1;
            }
        }
        first = false;
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
}

/// Appends the items of a section; `sentences` says how many make a paragraph.
pub(crate) fn set<'a>(
    out: &mut String,
    items: impl Iterator<Item = &'a str>,
    setting: Setting,
    sentences: usize,
    width: usize,
) {
    match setting {
        Setting::Lines => items.for_each(|item| wrap(out, "", item, width)),
        Setting::Dashes => items.for_each(|item| wrap(out, "- ", item, width)),
        Setting::Numbered => {
            for (index, item) in items.enumerate() {
                wrap(out, &format!("{}. ", index + 1), item, width);
            }
        }
        Setting::Paragraphs => {
            let mut paragraph = String::new();
            let mut blank = false;
            let mut count = 0;
            let mut flush = |paragraph: &mut String, out: &mut String| {
                if blank {
                    out.push('\n');
                }
                blank = true;
                wrap(out, "", paragraph, width);
                paragraph.clear();
            };
            for item in items {
                if !paragraph.is_empty() {
                    paragraph.push(' ');
                }
                paragraph.push_str(item);
                count += 1;
                if count == sentences {
                    flush(&mut paragraph, out);
                    count = 0;
                }
            }
            if !paragraph.is_empty() {
                flush(&mut paragraph, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wrap_and_keep_every_word() {
        let text = "one two three four five six seven";
        let mut out = String::new();
        wrap(&mut out, "1. ", text, 12);
        assert_eq!(out, "1. one two\nthree four\nfive six\nseven\n");
        let mut out = String::new();
        set(&mut out, ["A b.", "C d.", "E."].into_iter(), Setting::Paragraphs, 2, 75);
        assert_eq!(out, "A b. C d.\n\nE.\n");
        let mut out = String::new();
        set(&mut out, ["a", "b"].into_iter(), Setting::Numbered, 0, 75);
        assert_eq!(out, "1. a\n2. b\n");
    }
}
