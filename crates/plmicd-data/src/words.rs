//! Counts in words.

/// A count with its unit, which is given in the plural and has a regular one: "1 note", "2 notes".
pub fn counted(count: u64, units: &str) -> String {
    let unit = if count == 1 { units.strip_suffix('s').unwrap_or(units) } else { units };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "notes")), ["0 notes", "1 note", "2 notes"]);
    }
}
