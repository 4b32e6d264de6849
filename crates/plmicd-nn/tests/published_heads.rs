//! Label attention and segmentation against the published implementations.

mod common;

use common::{difference, golden, scalar};
use plmicd_nn::{
    CrossAttention, CrossWeights, EncoderConfig, LabelAttention, ModelConfig, ModelType, NoteLayout, Padding,
    SegmentBatch, Span, SpecialTokens, segment,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

fn read(part: &str) -> Option<Value> {
    golden(part).map(|path| serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap())
}

/// Nested lists of numbers as one tensor.
fn tensor(value: &Value) -> Tensor {
    fn collect(value: &Value, depth: usize, shape: &mut Vec<i64>, flat: &mut Vec<f64>) {
        match value {
            Value::Array(values) => {
                if shape.len() == depth {
                    shape.push(values.len() as i64);
                }
                values.iter().for_each(|value| collect(value, depth + 1, shape, flat));
            }
            number => flat.push(number.as_f64().unwrap()),
        }
    }
    let (mut shape, mut flat) = (Vec::new(), Vec::new());
    collect(value, 0, &mut shape, &mut flat);
    Tensor::from_slice(&flat).view(shape.as_slice())
}

#[test]
fn label_attention_of_laat() {
    let Some(cases) = read("heads/heads.json") else { return };
    let case = &cases["label_attention_laat"];
    let weights = &case["weights"];
    // Here the projection is not square; the output vectors have the width of the states all the same.
    for kind in [Kind::Float, Kind::Double] {
        let weight = |name: &str| tensor(&weights[name]).to_kind(kind);
        let head = LabelAttention::from_weights(
            Some(weight("first_linear.weight")),
            weight("second_linear.weight"),
            weight("third_linear.weight"),
            weight("third_linear.bias"),
        );
        let x = tensor(&case["x"]).to_kind(kind);
        let (b, t, d) = x.size3().unwrap();
        let states = x.view([b * t, d]);
        let spans: Vec<Span> = (0..b).map(|note| Span { start: note * t, length: t }).collect();
        let expected = tensor(&case["logits"]).to_kind(kind);
        let tolerance = if kind == Kind::Float { 1e-5 } else { 1e-9 };
        assert!(difference(&head.logits_reference(&states, &spans), &expected) < tolerance);
        for block in [1, 2, 5] {
            let logits = head.logits(&states, &spans, block);
            assert_eq!(logits.kind(), kind);
            assert!(difference(&logits, &expected) < tolerance);
        }
        let attention = tensor(&case["attention_labels_by_tokens"]).to_kind(kind);
        for note in 0..b {
            assert!(difference(&head.attention(&x.get(note)), &attention.get(note)) < tolerance);
        }
    }
}

#[test]
fn label_attention_of_caml() {
    let Some(cases) = read("heads/heads.json") else { return };
    let case = &cases["caml_attention"];
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::Double, 1e-9)] {
        let weight = |name: &str| tensor(&case["weights"][name]).to_kind(kind);
        // The bias of the queries moves all scores of a label alike: nothing follows from it.
        let head = LabelAttention::from_weights(
            None,
            weight("first_linear.weight"),
            weight("second_linear.weight"),
            weight("second_linear.bias"),
        );
        // What label attention reads there is the tanh of a convolution.
        let x = tensor(&case["x"]).to_kind(kind).tanh().transpose(1, 2).contiguous();
        let (b, t, d) = x.size3().unwrap();
        let states = x.view([b * t, d]);
        let spans: Vec<Span> = (0..b).map(|note| Span { start: note * t, length: t }).collect();
        let expected = tensor(&case["logits"]).to_kind(kind);
        assert!(difference(&head.logits_reference(&states, &spans), &expected) < tolerance);
        for block in [1, 2, 5] {
            assert!(difference(&head.logits(&states, &spans, block), &expected) < tolerance);
        }
    }
}

#[test]
fn cross_attention_of_plm_ca() {
    let Some(cases) = read("heads/heads.json") else { return };
    for name in ["cross_attention_scale1", "cross_attention_scale2"] {
        let case = &cases[name];
        for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::Double, 1e-9)] {
            let weight = |name: &str| tensor(&case["weights"][name]).to_kind(kind);
            let weights = CrossWeights {
                queries: weight("label_representations"),
                key: weight("weights_k.weight"),
                value: weight("weights_v.weight"),
                value_bias: weight("weights_v.bias"),
                norm: weight("layernorm.weight"),
                norm_bias: weight("layernorm.bias"),
                output: weight("output_linear.weight"),
                output_bias: weight("output_linear.bias"),
            };
            let head = CrossAttention::from_weights(weights, case["scale"].as_f64().unwrap());
            let x = tensor(&case["x"]).to_kind(kind);
            let (b, t, d) = x.size3().unwrap();
            let states = x.view([b * t, d]);
            let tokens = Vec::<f64>::try_from(tensor(&case["mask"]).sum_dim_intlist(1, false, Kind::Double));
            let masked = tokens.unwrap().into_iter().map(|tokens| tokens as i64).collect();
            for (lengths, logits) in
                [(masked, "logits_with_mask"), (vec![t; b as usize], "logits_without_mask")]
            {
                let spans: Vec<Span> =
                    (0..b).zip(lengths).map(|(note, length)| Span { start: note * t, length }).collect();
                let expected = tensor(&case[logits]).to_kind(kind);
                assert!(difference(&head.logits_reference(&states, &spans), &expected) < tolerance, "{name}");
                for block in [1, 2, 5] {
                    let off = difference(&head.logits(&states, &spans, block), &expected);
                    assert!(off < tolerance, "{name} {logits}: {off:e}");
                }
            }
        }
    }
}

#[test]
fn framed_segments_of_plm_icd() {
    let Some(cases) = read("heads/chunking_plmicd.json") else { return };
    let mut checked = 0;
    for case in cases.as_array().unwrap().iter().filter(|case| case["mode"] != "laat") {
        let number = |name: &str| case[name].as_i64().unwrap();
        let pad = number("pad");
        let config = ModelConfig { segment_length: number("chunk_size") as usize, ..ModelConfig::default() };
        let config = config.with_published_mode(case["mode"].as_str().unwrap(), ModelType::Bert).unwrap();
        let encoder = EncoderConfig { pad_token_id: pad, ..EncoderConfig::small(100, 4, 1, 1) };
        let layout = NoteLayout::new(&config, &encoder);
        let documents: Vec<Vec<i32>> = serde_json::from_value(case["documents"].clone()).unwrap();
        // Where the note is framed the documents are given as framed.
        let specials = match config.pooling.frames_segments() {
            true => SpecialTokens { cls: Some(number("cls")), sep: Some(number("sep")), pad },
            false => SpecialTokens { cls: None, sep: None, pad },
        };
        let batch = layout.batch(&documents, &specials, Device::Cpu).unwrap();
        let expected_ids = tensor(&case["input_ids"]).to_kind(Kind::Int64);
        let expected_mask = tensor(&case["attention_mask"]).to_kind(Kind::Int64);
        assert!(batch.ids.view_as(&expected_ids).equal(&expected_ids), "{case}");
        assert!(batch.mask.view_as(&expected_mask).equal(&expected_mask), "{case}");
        let lengths: Vec<usize> =
            documents.iter().map(|document| layout.length(document.len(), &specials)).collect();
        assert_eq!(batch.lengths, lengths, "{case}");
        checked += 1;
    }
    assert_eq!(checked, 5);
}

#[test]
fn segments_of_plm_icd() {
    let Some(cases) = read("heads/chunking_plmicd.json") else { return };
    let mut checked = 0;
    for case in cases.as_array().unwrap().iter().filter(|case| case["mode"] == "laat") {
        let length = case["chunk_size"].as_u64().unwrap() as usize;
        let pad = case["pad"].as_i64().unwrap();
        let documents: Vec<Vec<i64>> = serde_json::from_value(case["documents"].clone()).unwrap();
        let batch = SegmentBatch::new(&documents, length, pad, Padding::Attend, Device::Cpu).unwrap();
        let expected_ids = tensor(&case["input_ids"]).to_kind(Kind::Int64);
        let expected_mask = tensor(&case["attention_mask"]).to_kind(Kind::Int64);
        let shape = expected_ids.size3().unwrap();
        assert_eq!(batch.ids.size(), [shape.0 * shape.1, shape.2]);
        assert!(batch.ids.view_as(&expected_ids).equal(&expected_ids), "{case}");
        assert!(batch.mask.view_as(&expected_mask).equal(&expected_mask), "{case}");
        let tokens: usize = batch.lengths.iter().sum();
        assert_eq!(tokens as f64, scalar(&expected_mask), "{case}");

        // One note at a time, through the function for single notes.
        let bare = SpecialTokens { cls: None, sep: None, pad };
        for (note, document) in documents.iter().enumerate() {
            let tokens: Vec<i32> = document.iter().map(|&token| token as i32).collect();
            let flat: Vec<i64> = segment(&tokens, 4096, length, &bare).concat();
            let expected = Vec::<i64>::try_from(expected_ids.get(note as i64).flatten(0, 1)).unwrap();
            assert_eq!(flat, expected[..flat.len()]);
            assert!(expected[flat.len()..].iter().all(|&token| token == pad));
        }
        checked += 1;
    }
    assert_eq!(checked, 4);
}
