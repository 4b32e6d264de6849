//! Figures and reasons in words.

use plmicd_pipeline::fingerprint::Reason;
use serde_json::Value;

/// `1.4 GB`: decimal units, as disks and downloads are sold.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.5 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `1 h 02 min`, `3 min 05 s`, `4.2 s`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1 234 567` with thin separation that survives copying: `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 note`, `1,234 notes`.
pub fn notes(number: u64) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} note{ending}", count(number))
}

/// A setting's value, short enough for a line.
pub fn value(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}

/// A reason as half a sentence.
pub fn reason(reason: &Reason) -> String {
    let place =
        |place: &Option<String>| place.as_ref().map_or(" (the default)".to_owned(), |p| format!(" ({p})"));
    let short = |digest: &Option<plmicd_artifact::Digest>| digest.map_or("nothing".to_owned(), |d| d.short());
    match reason {
        Reason::NeverRun => "never run".to_owned(),
        Reason::Forced => "forced".to_owned(),
        Reason::OutputMissing => "its output is gone from the store".to_owned(),
        Reason::OutputCorrupt { detail } => format!("its output is damaged: {detail}"),
        Reason::StageVersion { old, new } => format!("the stage itself changed: version {old} -> {new}"),
        Reason::Stage { old, new } => format!("it runs another stage: {old} -> {new}"),
        Reason::Config { path, old, new, place: at } => {
            format!("{path}: {} -> {}{}", value(old), value(new), place(at))
        }
        Reason::ConfigAdded { path, new, place: at } => format!("{path}: new, {}{}", value(new), place(at)),
        Reason::ConfigRemoved { path, old } => format!("{path}: no longer a setting (was {})", value(old)),
        Reason::Input { name, old, new } => {
            format!("input `{name}` changed: {} -> {}", short(old), short(new))
        }
        Reason::Environment { name, old, new } => {
            format!("{name}: {} -> {}", old.as_deref().unwrap_or("unset"), new.as_deref().unwrap_or("unset"))
        }
        Reason::FormatVersion { old, new } => format!("the format of records changed: {old} -> {new}"),
        Reason::Upstream { node } => format!("waits for `{node}`"),
    }
}

/// Several reasons in one line.
pub fn reasons(all: &[Reason]) -> String {
    all.iter().map(reason).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(4_200_000_000), "4.2 GB");
        assert_eq!(duration(4.21), "4.2 s");
        assert_eq!(duration(59.7), "1 min 00 s");
        assert_eq!(duration(3725.0), "1 h 02 min");
        assert_eq!(count(2_083_180), "2,083,180");
        assert_eq!(count(12), "12");
    }
}
