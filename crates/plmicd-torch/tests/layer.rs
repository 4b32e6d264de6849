//! The fused parts of a transformer layer against the same written out in double precision.

use plmicd_torch::{
    Attention, Dropout, EmbeddingTables, FeedForward, Norm, Place, Projections, add_product, attention,
    embedding, feed_forward, label_gradients, label_scores, norm, projections, wide_product,
};
use tch::{Device, Kind, Tensor};

fn draw(shape: &[i64], seed: u64) -> Tensor {
    let tensor = Tensor::empty(shape, (Kind::Float, Device::Cpu));
    plmicd_torch::fill_normal(&tensor, 0.0, 1.0, seed).unwrap();
    tensor
}

/// A leaf, and the same in double precision.
fn leaf(shape: &[i64], seed: u64, kind: Kind) -> (Tensor, Tensor) {
    let values = draw(shape, seed).to_kind(kind);
    let double = values.to_kind(Kind::Double);
    (values.set_requires_grad(true), double.set_requires_grad(true))
}

/// The largest difference, as a share of the largest value expected.
fn off(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let largest = f64::try_from(expected.abs().max()).unwrap();
    let difference = (found.to_kind(Kind::Double) - expected).abs().max();
    f64::try_from(difference).unwrap() / largest.max(1e-3)
}

fn backward(root: &Tensor, gradient: &Tensor) {
    plmicd_torch::backward_with_gradient(root, &gradient.to_kind(root.kind())).unwrap();
}

fn tolerance(kind: Kind) -> f64 {
    if kind == Kind::Float { 3e-6 } else { 2e-2 }
}

const KINDS: [Kind; 2] = [Kind::Float, Kind::BFloat16];

#[test]
fn attention_is_softmax_of_scaled_products() {
    // Segments of unlike lengths, with and without whole vectors, one with hidden tokens.
    let bounds = [0, 20, 37, 40];
    let (heads, size) = (3, 16);
    let mask = Tensor::zeros([40], (Kind::Float, Device::Cpu));
    let _ = mask.narrow(0, 17, 3).fill_(-10_000.0);
    let gradient = draw(&[40, heads * size], 2);
    for kind in KINDS {
        let (qkv, double) = leaf(&[40, 3 * heads * size], 1, kind);
        let call = Attention { bounds: &bounds, heads, mask: Some(&mask), dropout: 0.3 };
        let out = attention(&qkv, &call, &Dropout::off()).unwrap();
        let segments: Vec<Tensor> = bounds
            .windows(2)
            .map(|bound| {
                let (start, length) = (bound[0], bound[1] - bound[0]);
                let rows =
                    double.narrow(0, start, length).view([length, 3, heads, size]).permute([1, 2, 0, 3]);
                let products = rows.get(0).matmul(&rows.get(1).transpose(1, 2)) / (size as f64).sqrt();
                let weights = (products + mask.narrow(0, start, length)).softmax(-1, None);
                weights.matmul(&rows.get(2)).transpose(0, 1).reshape([length, heads * size])
            })
            .collect();
        let expected = Tensor::cat(&segments, 0);
        assert_eq!(out.kind(), kind);
        assert!(off(&out, &expected) < tolerance(kind), "{kind:?}: {:e}", off(&out, &expected));
        backward(&out, &gradient);
        backward(&expected, &gradient);
        let far = off(&qkv.grad(), &double.grad());
        assert!(far < tolerance(kind), "{kind:?}: {far:e}");
    }
}

#[test]
fn norm_adds_bias_and_residual_first() {
    for (columns, kind) in [(50, Kind::Float), (64, Kind::Float), (50, Kind::BFloat16)] {
        let (x, x2) = leaf(&[70, columns], 1, kind);
        let (residual, residual2) = leaf(&[70, columns], 2, Kind::Float);
        let parameters: Vec<(Tensor, Tensor)> =
            (3..6).map(|seed| leaf(&[columns], seed, Kind::Float)).collect();
        let call = Norm {
            bias: &parameters[0].0,
            gamma: &parameters[1].0,
            beta: &parameters[2].0,
            epsilon: 1e-5,
            dropout: 0.5,
        };
        let (out, low) = norm(&x, &residual, &call, &Dropout::off()).unwrap();
        let [bias, gamma, beta] = [0, 1, 2].map(|i| &parameters[i].1);
        let sum = &residual2 + &x2 + bias;
        let expected = sum.layer_norm([columns], Some(gamma), Some(beta), 1e-5, false);
        assert!(off(&out, &expected) < 3e-6);
        assert_eq!(low.is_some(), kind == Kind::BFloat16);
        let gradient = draw(&[70, columns], 9);
        let (mut total, mut times) = ((&out * &gradient).sum(Kind::Float), 1.0);
        if let Some(low) = &low {
            assert!(low.equal(&out.to_kind(Kind::BFloat16)));
            total += (low.to_kind(Kind::Float) * &gradient).sum(Kind::Float);
            times = 2.0;
        }
        total.backward();
        (expected * &gradient * times).sum(Kind::Double).backward();
        for (found, expected) in [(x, x2), (residual, residual2)].into_iter().chain(parameters) {
            let far = off(&found.grad(), &expected.grad());
            assert!(far < tolerance(kind), "{columns} {kind:?}: {far:e}");
        }
    }
}

#[test]
fn feed_forward_keeps_gelu_exact() {
    for kind in KINDS {
        let (x, x2) = leaf(&[70, 50], 1, kind);
        let (first, first2) = leaf(&[130, 50], 2, Kind::Float);
        let (bias, bias2) = leaf(&[130], 3, Kind::Float);
        let (second, second2) = leaf(&[50, 130], 4, Kind::Float);
        let low = tch::no_grad(|| (first.to_kind(Kind::BFloat16), second.to_kind(Kind::BFloat16)));
        let call = FeedForward {
            first: &first,
            bias: &bias,
            second: &second,
            low: (kind == Kind::BFloat16).then_some((&low.0, &low.1)),
        };
        let out = feed_forward(&x, &call).unwrap();
        let inner = (x2.matmul(&first2.transpose(0, 1)) + &bias2).gelu("none");
        let expected = inner.matmul(&second2.transpose(0, 1));
        assert!(off(&out, &expected) < tolerance(kind));
        let gradient = draw(&[70, 50], 9);
        // Twice: gradients of weights are added up.
        backward(&out, &gradient);
        backward(&feed_forward(&x, &call).unwrap(), &gradient);
        backward(&expected, &(gradient * 2.0));
        for (found, expected) in [(x, x2), (first, first2), (bias, bias2), (second, second2)] {
            let far = off(&found.grad(), &expected.grad());
            assert!(far < tolerance(kind), "{kind:?}: {far:e}");
        }
    }
}

#[test]
fn projections_lie_side_by_side() {
    for kind in KINDS {
        let (x, x2) = leaf(&[70, 50], 1, kind);
        let weights = [leaf(&[30, 50], 2, Kind::Float), leaf(&[20, 50], 3, Kind::Float)];
        let biases = [leaf(&[30], 4, Kind::Float), leaf(&[20], 5, Kind::Float)];
        let low = |parts: [&Tensor; 2]| tch::no_grad(|| Tensor::cat(&parts, 0).to_kind(Kind::BFloat16));
        let low_weight = low([&weights[0].0, &weights[1].0]);
        let low_bias = low([&biases[0].0, &biases[1].0]);
        for biased in [true, false] {
            let is_low = kind == Kind::BFloat16;
            let call = Projections {
                weights: &[&weights[0].0, &weights[1].0],
                biases: if biased { &[&biases[0].0, &biases[1].0] } else { &[] },
                low_weight: is_low.then_some(&low_weight),
                low_bias: (is_low && biased).then_some(&low_bias),
            };
            let out = projections(&x, &call).unwrap();
            let parts = [0, 1].map(|i| {
                let product = x2.matmul(&weights[i].1.transpose(0, 1));
                if biased { product + &biases[i].1 } else { product }
            });
            let expected = Tensor::cat(&parts, 1);
            assert!(off(&out, &expected) < tolerance(kind));
            let gradient = draw(&[70, 50], 9);
            backward(&out, &gradient);
            backward(&expected, &gradient);
        }
        for (found, expected) in [(x, x2)].into_iter().chain(weights).chain(biases) {
            let far = off(&found.grad(), &expected.grad());
            assert!(far < tolerance(kind), "{kind:?}: {far:e}");
        }
    }
}

#[test]
fn embeddings_take_gradients_in_the_rows_read() {
    let tables =
        [leaf(&[9, 6], 1, Kind::Float), leaf(&[5, 6], 2, Kind::Float), leaf(&[2, 6], 3, Kind::Float)];
    let ids = Tensor::from_slice(&[3i64, 8, 1, 3, 1]);
    let places = Tensor::from_slice(&[0i64, 1, 2, 0, 4]);
    let [words, positions, types] = [0, 1, 2].map(|i| &tables[i].0);
    let call = EmbeddingTables { words, positions, types, word_pad: Some(1), position_pad: None };
    let out = embedding(&call, &ids, &places).unwrap();
    let [words, positions, types] = [0, 1, 2].map(|i| &tables[i].1);
    let expected =
        Tensor::embedding(words, &ids, 1, false, false) + positions.index_select(0, &places) + types.get(0);
    assert!(off(&out, &expected) < 1e-6);
    let gradient = draw(&[5, 6], 4);
    backward(&out, &gradient);
    backward(&expected, &gradient);
    for (found, expected) in &tables {
        assert!(off(&found.grad(), &expected.grad()) < 1e-6);
    }
}

/// With dropout the loss is still a smooth function of its inputs: its slope is what the gradient says, so the
/// backward pass drops what the forward pass dropped.
#[test]
fn gradients_take_the_same_masks() {
    let slope = |x: &Tensor, run: &dyn Fn(&Tensor) -> Tensor| {
        let weights = draw(&run(x).size(), 7);
        let loss =
            |x: &Tensor| f64::try_from((run(x).to_kind(Kind::Double) * &weights).sum(Kind::Double)).unwrap();
        let leaf = x.copy().set_requires_grad(true);
        backward(&run(&leaf), &weights);
        let direction = draw(&x.size(), 8);
        let step = 1e-3;
        let (ahead, behind) = (loss(&(x + &direction * step)), loss(&(x - &direction * step)));
        let measured = (ahead - behind) / (2.0 * step);
        let expected = f64::try_from((leaf.grad() * &direction).sum(Kind::Double)).unwrap();
        assert!((measured - expected).abs() < 5e-3 * expected.abs().max(1.0), "{measured} for {expected}");
    };
    let qkv = draw(&[40, 96], 1);
    let bounds = [0, 23, 40];
    slope(&qkv, &|x| {
        let call = Attention { bounds: &bounds, heads: 2, mask: None, dropout: 0.3 };
        attention(x, &call, &Dropout::seeded(5)).unwrap()
    });
    let parameters: Vec<Tensor> = (3..6).map(|seed| draw(&[50], seed)).collect();
    let residual = draw(&[30, 50], 2);
    slope(&draw(&[30, 50], 1), &|x| {
        let call = Norm {
            bias: &parameters[0],
            gamma: &parameters[1],
            beta: &parameters[2],
            epsilon: 1e-5,
            dropout: 0.3,
        };
        norm(x, &residual, &call, &Dropout::seeded(5)).unwrap().0
    });
}

#[test]
fn parts_drop_what_the_whole_drops() {
    let (qkv, x) = (draw(&[40, 96], 1), draw(&[40, 48], 2));
    let zeros = Tensor::zeros([48], (Kind::Float, Device::Cpu));
    let ones = zeros.ones_like();
    let run = |dropout: Dropout, start: i64, length: i64, bounds: &[i64]| {
        let qkv = qkv.narrow(0, start, length);
        let call = Attention { bounds, heads: 2, mask: None, dropout: 0.4 };
        let context = attention(&qkv, &call, &dropout).unwrap();
        let call = Norm { bias: &zeros, gamma: &ones, beta: &zeros, epsilon: 1e-5, dropout: 0.4 };
        let x = x.narrow(0, start, length);
        let (out, _) = norm(&x, &x.zeros_like(), &call, &dropout).unwrap();
        Tensor::cat(&[context.repeat([1, 48 / context.size()[1]]), dropout.apply(&out, 0.4)], 1)
    };
    let whole = run(Dropout::seeded(3), 0, 40, &[0, 20, 40]);
    let stream = Dropout::seeded(3);
    let first = run(stream.part(Place { row: 0, segment: 0 }), 0, 20, &[0, 20]);
    let second = run(stream.part(Place { row: 20, segment: 1 }), 20, 20, &[0, 20]);
    assert!(Tensor::cat(&[first, second], 0).equal(&whole));
    assert!(!run(stream.part(Place::default()), 20, 20, &[0, 20]).equal(&whole.narrow(0, 20, 20)));
    let dropped = f64::try_from(whole.eq(0.0).to_kind(Kind::Double).mean(Kind::Double)).unwrap();
    assert!(dropped > 0.1 && dropped < 0.5, "{dropped}");
}

#[test]
fn label_attention_in_one_pass_over_scores() {
    for (kind, bound) in [(Kind::Float, 3e-6), (Kind::BFloat16, 1e-2)] {
        let (queries, queries2) = leaf(&[5, 37], 1, Kind::Float);
        let (products, products2) = leaf(&[5, 37], 2, Kind::Float);
        let (queries, products) = (queries.detach().copy(), products.detach().copy());
        let (scores, log_sums) = label_scores(&queries, &products).unwrap();
        let expected = (queries2.softmax(-1, None) * &products2).sum_dim_intlist(-1, false, None);
        assert!(off(&scores, &expected) < 3e-6);
        let grads = draw(&[5], 3);
        let (by_query, by_product) =
            label_gradients(queries, products, &scores, &log_sums, &grads, kind).unwrap();
        backward(&expected, &grads);
        assert_eq!((by_query.kind(), by_product.kind()), (kind, kind));
        assert!(off(&by_query, &queries2.grad()) < bound);
        assert!(off(&by_product, &products2.grad()) < bound);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = draw(&[4, 6], 1);
    let call = Attention { bounds: &[0, 3], heads: 1, mask: None, dropout: 0.0 };
    assert!(attention(&x, &call, &Dropout::off()).unwrap_err().to_string().contains("cover"));
    let short = draw(&[5], 2);
    let call = Norm { bias: &short, gamma: &short, beta: &short, epsilon: 1e-5, dropout: 0.0 };
    assert!(norm(&x, &x, &call, &Dropout::off()).unwrap_err().to_string().contains("6 contiguous"));
    let call = FeedForward { first: &x, bias: &short, second: &x, low: None };
    assert!(feed_forward(&x, &call).is_err());
    let low = x.to_kind(Kind::BFloat16);
    let call = Projections { weights: &[&x], biases: &[], low_weight: None, low_bias: None };
    assert!(projections(&low, &call).unwrap_err().to_string().contains("do not fit"));
}

#[test]
fn products_of_bf16_are_summed_in_fp32_whatever_way_matrices_lie() {
    let (m, k, n) = (37, 50, 21);
    for kind in KINDS {
        let (a, b) = (draw(&[m, k], 31).to_kind(kind), draw(&[k, n], 32).to_kind(kind));
        let wide = Tensor::zeros([m, n + 9], (Kind::Float, Device::Cpu));
        let [a_wide, b_wide] = [&a, &b].map(|matrix| Tensor::cat(&[matrix, matrix], 1));
        let turned = |matrix: &Tensor| matrix.transpose(0, 1).contiguous().transpose(0, 1);
        let skipping = |matrix: &Tensor| Tensor::stack(&[matrix, matrix], 2).select(2, 0);
        let lying = [
            (a.shallow_clone(), b.shallow_clone()),
            (turned(&a), b.shallow_clone()),
            (a_wide.narrow(1, 0, k), turned(&b)),
            (turned(&a), b_wide.narrow(1, n, n)),
            (skipping(&a), skipping(&b)),
        ];
        let product = a.to_kind(Kind::Double).matmul(&b.to_kind(Kind::Double));
        for (a, b) in lying {
            // Beside columns that are not the sum's.
            let sum = wide.fill(1.0).narrow(1, 4, n);
            add_product(&sum, &a, &b).unwrap();
            assert!(off(&sum, &(&product + 1.0)) < 1e-6, "{kind:?}");
            assert!(off(&wide_product(&a, &b).unwrap(), &product) < 1e-6, "{kind:?}");
        }
        assert!(add_product(&wide, &a, &b).is_err(), "a sum of another shape");
    }
}
