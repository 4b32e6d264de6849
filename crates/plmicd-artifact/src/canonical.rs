//! Canonical JSON: one text for one value, whatever `serde_json` does with its maps.
//!
//! Digests and stage keys are taken over this text, so the layout is specified here and not left to a
//! serializer (features of `serde_json` switched on by some dependency may change its map order):
//!
//! * UTF-8; two spaces of indentation a level; one member or element a line; `"name": value`; `,` at line
//!   ends; `{}` and `[]` when empty; one `\n` after the whole.
//! * Object members in ascending order of the UTF-8 bytes of their (unescaped) names.
//! * Strings: `\"`, `\\`, `\b`, `\t`, `\n`, `\f`, `\r`, other characters below U+0020 as `\u00xx` with lower-case
//!   hex digits; everything else as it is.
//! * Integers in decimal. Other numbers are IEEE doubles, written with the fewest digits that read back as the same double:
//!   plain with at least one digit after the point where the value is 0 or 1e-4 <= |x| < 1e16 (`0.5`, `1.0`, `-0.0`),
//!   otherwise `d[.ddd]e[-]x` (`5e-5`, `1.5e300`).

use serde_json::{Number, Value};

/// The canonical text of a JSON value, with a trailing newline. See the module documentation for the rules.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value, 0);
    text.push('\n');
    text
}

fn write_value(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => write_string(text, string),
        Value::Array(elements) => {
            write_block(text, depth, ['[', ']'], elements, |text, element| {
                write_value(text, element, depth + 1);
            });
        }
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            write_block(text, depth, ['{', '}'], &sorted, |text, (name, member)| {
                write_string(text, name);
                text.push_str(": ");
                write_value(text, member, depth + 1);
            });
        }
    }
}

fn write_block<T>(
    text: &mut String,
    depth: usize,
    [open, close]: [char; 2],
    items: &[T],
    mut write_item: impl FnMut(&mut String, &T),
) {
    text.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        new_line(text, depth + 1);
        write_item(text, item);
    }
    if !items.is_empty() {
        new_line(text, depth);
    }
    text.push(close);
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    for _ in 0..depth {
        text.push_str("  ");
    }
}

fn write_number(text: &mut String, number: &Number) {
    if let Some(integer) = number.as_u64() {
        text.push_str(&integer.to_string());
    } else if let Some(integer) = number.as_i64() {
        text.push_str(&integer.to_string());
    } else {
        // A `Number` is finite by construction; beyond 64 bits it is read as a double.
        write_double(text, number.as_f64().unwrap_or(f64::MAX));
    }
}

fn write_double(text: &mut String, double: f64) {
    let magnitude = double.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        let plain = double.to_string();
        text.push_str(&plain);
        if !plain.contains('.') {
            text.push_str(".0");
        }
    } else {
        text.push_str(&format!("{double:e}"));
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn layout_is_as_specified() {
        let value = json!({
            "b": [1, -2, 0.5, [], {}],
            "a": {"é": null, "z": true, "Z": "q\"\\\n\u{1}\u{7f}é"},
        });
        let expected = "{\n  \"a\": {\n    \"Z\": \"q\\\"\\\\\\n\\u0001\u{7f}é\",\n    \"z\": true,\n    \
                        \"é\": null\n  },\n  \"b\": [\n    1,\n    -2,\n    0.5,\n    [],\n    {}\n  ]\n}\n";
        assert_eq!(canonical_json(&value), expected);
    }

    #[test]
    fn numbers_are_as_specified() {
        let cases = [
            (json!(1.0), "1.0"),
            (json!(-0.0), "-0.0"),
            (json!(5e-5), "5e-5"),
            (json!(1e-4), "0.0001"),
            (json!(0.1), "0.1"),
            (json!(1e15), "1000000000000000.0"),
            (json!(1e16), "1e16"),
            (json!(1.5e300), "1.5e300"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(i64::MIN), "-9223372036854775808"),
        ];
        for (value, expected) in cases {
            assert_eq!(canonical_json(&value), format!("{expected}\n"));
        }
    }

    #[test]
    fn member_order_is_by_bytes_not_by_insertion() {
        let one: Value = serde_json::from_str(r#"{"b":1,"a":2,"aa":3}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"aa":3,"a":2,"b":1}"#).unwrap();
        assert_eq!(canonical_json(&one), canonical_json(&two));
        assert_eq!(canonical_json(&one), "{\n  \"a\": 2,\n  \"aa\": 3,\n  \"b\": 1\n}\n");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            proptest::num::f64::NORMAL.prop_map(Value::from),
            proptest::num::f64::SUBNORMAL.prop_map(Value::from),
            "\\PC*".prop_map(Value::from),
            proptest::collection::vec(any::<char>(), 0..8)
                .prop_map(|c| Value::from(c.into_iter().collect::<String>())),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map(".{0,6}", inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_back_as_the_same_value(value in any_json()) {
            let text = canonical_json(&value);
            let back: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(canonical_json(&back), text);
        }
    }
}
