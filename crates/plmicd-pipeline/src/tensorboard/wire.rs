//! The format of event files: TFRecord framing around protocol buffers, of which only the fields used here are written.
//! Field numbers are those of TensorFlow's `event.proto`, `summary.proto` and `tensor.proto`, and of
//! `plugin_data.proto` and `api.proto` of TensorBoard's hparams plugin.

use std::collections::BTreeMap;

/// The value of a hyperparameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Setting {
    Number(f64),
    Text(String),
    Switch(bool),
}

/// Appends a record: length, its checksum, data, its checksum.
pub(super) fn record(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_crc(data).to_le_bytes());
}

/// CRC-32C, rotated and shifted as the format wants it, since the checksum of data with checksums is weak.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The event that a file begins with.
pub(super) fn first_event(time: f64) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, time).bytes(3, b"brain.Event:2");
    event.0
}

/// An event with a value for each name.
pub(super) fn scalars(time: f64, step: u64, values: &BTreeMap<String, f64>) -> Vec<u8> {
    let mut summary = Message::default();
    for (name, value) in values {
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes()).float(2, *value as f32);
        summary.bytes(1, &entry.0);
    }
    let mut event = Message::default();
    event.double(1, time).integer(2, step).bytes(5, &summary.0);
    event.0
}

/// The hyperparameters of a run, as the hparams plugin looks for them.
pub(super) fn session_start(time: f64, settings: &BTreeMap<String, Setting>) -> Vec<u8> {
    let mut start = Message::default();
    for (name, setting) in settings {
        let mut value = Message::default();
        match setting {
            Setting::Number(number) => value.double(2, *number),
            Setting::Text(text) => value.bytes(3, text.as_bytes()),
            Setting::Switch(on) => value.integer(4, u64::from(*on)),
        };
        let mut entry = Message::default();
        entry.bytes(1, name.as_bytes()).bytes(2, &value.0);
        start.bytes(1, &entry.0);
    }
    start.double(5, time);
    hparams(time, b"_hparams_/session_start_info", 3, &start.0)
}

/// The end of a run.
pub(super) fn session_end(time: f64, success: bool) -> Vec<u8> {
    const SUCCESS: u64 = 1;
    const FAILURE: u64 = 2;
    let mut end = Message::default();
    end.integer(1, if success { SUCCESS } else { FAILURE }).double(2, time);
    hparams(time, b"_hparams_/session_end_info", 4, &end.0)
}

/// An event for the hparams plugin: `content` is `field` of its data.
fn hparams(time: f64, tag: &[u8], field: u32, content: &[u8]) -> Vec<u8> {
    let mut data = Message::default();
    // Its field 1, the version, is 0, which is not written.
    data.bytes(field, content);
    let mut plugin = Message::default();
    plugin.bytes(1, b"hparams").bytes(2, &data.0);
    let mut metadata = Message::default();
    metadata.bytes(1, &plugin.0);
    // The reader drops summaries without a value: one float in one dimension, of type float.
    let (mut size, mut shape, mut tensor) = (Message::default(), Message::default(), Message::default());
    size.integer(1, 1);
    shape.bytes(2, &size.0);
    tensor.integer(1, 1).bytes(2, &shape.0).bytes(5, &0_f32.to_le_bytes());
    let mut value = Message::default();
    value.bytes(1, tag).bytes(8, &tensor.0).bytes(9, &metadata.0);
    let mut summary = Message::default();
    summary.bytes(1, &value.0);
    let mut event = Message::default();
    event.double(1, time).bytes(5, &summary.0);
    event.0
}

/// A protocol buffer in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    fn integer(&mut self, field: u32, value: u64) -> &mut Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    fn double(&mut self, field: u32, value: f64) -> &mut Self {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn float(&mut self, field: u32, value: f32) -> &mut Self {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_with_masked_checksums() {
        // The length 1 and the byte `a` (0x61): CRC-32C of `a` is 0xc1d04330, of the eight bytes of the length
        // 0xe02df10b? Both are taken bit by bit here, not by the crate.
        let mut out = Vec::new();
        record(&mut out, b"a");
        let crc = |bytes: &[u8]| {
            let mut crc = u32::MAX;
            for byte in bytes {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                }
            }
            let crc = !crc;
            crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
        };
        let length = 1_u64.to_le_bytes();
        let expected = [&length[..], &crc(&length), b"a", &crc(b"a")].concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn scalars_are_as_protocol_buffers_write_them() {
        let bytes = scalars(1.0, 300, &BTreeMap::from([("loss".to_owned(), 0.5)]));
        // Field 1 (double) 1.0; field 2 (varint) 300; field 5: field 1: field 1 "loss", field 2 (float) 0.5.
        let expected = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f][..],
            &[0x10, 0xac, 0x02],
            &[0x2a, 13, 0x0a, 11],
            &[0x0a, 4, b'l', b'o', b's', b's'],
            &[0x15, 0, 0, 0, 0x3f],
        ];
        assert_eq!(bytes, expected.concat());
    }
}
