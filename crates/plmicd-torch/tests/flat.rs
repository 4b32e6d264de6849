//! Parameters and gradients as views of flat buffers.

use plmicd_torch::{FlatParameters, backward_with_gradient, grad_or_zeros, set_grad};
use tch::{Device, Kind, Tensor};

fn leaf(shape: &[i64], value: f64) -> Tensor {
    Tensor::full(shape, value, (Kind::Float, Device::Cpu)).set_requires_grad(true)
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.flatten(0, -1)).unwrap()
}

#[test]
fn parameters_become_views_decayed_first() {
    let bias = leaf(&[3], 1.0);
    let weight = leaf(&[2, 3], 2.0);
    let scale = leaf(&[1], 3.0);
    let params = [("bias", &bias), ("weight", &weight), ("scale", &scale)]
        .map(|(name, t)| (name.to_owned(), t.shallow_clone()));
    let flat = FlatParameters::adopt(params.into(), &[false, true, false]).unwrap();

    let names: Vec<_> = flat.entries().iter().map(|entry| (entry.name.as_str(), entry.offset)).collect();
    assert_eq!(names, [("weight", 0), ("bias", 16), ("scale", 32)]);
    assert_eq!((flat.numel(), flat.decay_boundary(), flat.parameter_count()), (48, 16, 10));
    assert_eq!(flat.runs(|entry| entry.decay), [(0..16, true), (16..48, false)]);
    assert_eq!(floats(&weight), [2.0; 6]);

    // Writing to the buffer changes the model.
    let _ = tch::no_grad(|| flat.values().narrow(0, 16, 3).fill_(7.0));
    assert_eq!(floats(&bias), [7.0; 3]);
    assert!(bias.requires_grad() && bias.is_leaf());
}

#[test]
fn backward_accumulates_into_the_flat_buffer() {
    let weight = leaf(&[2, 3], 2.0);
    let bias = leaf(&[2], 0.0);
    let params =
        vec![("weight".to_owned(), weight.shallow_clone()), ("bias".to_owned(), bias.shallow_clone())];
    let flat = FlatParameters::adopt(params, &[true, false]).unwrap();
    let input = Tensor::from_slice(&[1.0f32, 2.0, 3.0]).view([1, 3]);
    let place = weight.grad().data_ptr();
    for pass in 1..=3 {
        let output = input.linear(&weight, Some(&bias));
        if pass == 2 {
            backward_with_gradient(&output, &output.ones_like()).unwrap();
        } else {
            output.sum(Kind::Float).backward();
        }
        let p = pass as f32;
        let expected = [p, 2.0 * p, 3.0 * p, p, 2.0 * p, 3.0 * p];
        assert_eq!(floats(&flat.grads().narrow(0, 0, 6)), expected);
        assert_eq!(floats(&flat.grads().narrow(0, 16, 2)), [p, p]);
        // Still the same view, not a fresh tensor.
        assert_eq!(weight.grad().data_ptr(), place);
    }
    flat.zero_grad();
    assert_eq!(floats(&weight.grad()), [0.0; 6]);
    assert_eq!(weight.grad().data_ptr(), place);
}

#[test]
fn backward_from_a_gradient_is_the_vector_jacobian_product() {
    let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0]).set_requires_grad(true);
    let y = &x * &x;
    backward_with_gradient(&y, &Tensor::from_slice(&[1.0f32, 0.0, -1.0])).unwrap();
    assert_eq!(floats(&x.grad()), [2.0, 0.0, -6.0]);
    let wrong = backward_with_gradient(&(&x * 2.0), &Tensor::from_slice(&[1.0f32])).unwrap_err();
    assert!(wrong.to_string().contains("shape"), "{wrong}");
}

#[test]
fn gradients_must_fit_and_are_made_when_missing() {
    let x = leaf(&[2], 1.0);
    assert!(set_grad(&x, &Tensor::zeros([3], (Kind::Float, Device::Cpu))).is_err());
    assert!(!x.grad().defined());
    let _ = grad_or_zeros(&x).unwrap().fill_(2.0);
    assert_eq!(floats(&grad_or_zeros(&x).unwrap()), [2.0, 2.0]);
}

#[test]
fn what_cannot_be_adopted_is_named() {
    let double = Tensor::zeros([2], (Kind::Double, Device::Cpu)).set_requires_grad(true);
    let wrong = FlatParameters::adopt(vec![("head.weight".to_owned(), double)], &[true]).unwrap_err();
    assert!(wrong.to_string().contains("head.weight"), "{wrong}");
    let twice = vec![("w".to_owned(), leaf(&[1], 0.0)), ("w".to_owned(), leaf(&[1], 0.0))];
    assert!(FlatParameters::adopt(twice, &[true, true]).unwrap_err().to_string().contains("named w"));
}
