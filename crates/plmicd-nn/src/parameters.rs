use plmicd_torch::{derive_seed, fill_normal};
use tch::{Device, Kind, Tensor};

/// A trainable tensor of a model under its published name.
#[derive(Debug)]
pub struct NamedParameter {
    pub name: String,
    /// Shares its memory with the model.
    pub tensor: Tensor,
    /// Whether weight decay applies: not to biases and LayerNorm weights.
    pub decay: bool,
    /// Whether it belongs to the label attention rather than to the encoder.
    pub is_head: bool,
}

impl NamedParameter {
    /// Another handle on the same memory.
    pub fn shallow_clone(&self) -> NamedParameter {
        NamedParameter {
            name: self.name.clone(),
            tensor: self.tensor.shallow_clone(),
            decay: self.decay,
            is_head: self.is_head,
        }
    }
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Init {
    /// Normal with mean 0 and the store's standard deviation.
    Normal,
    /// The same, with one row of zeros: that of the padding token.
    NormalWithZeroRow(i64),
    Zeros,
    Ones,
}

/// Makes parameters and keeps a handle on each, in the order in which they were made.
pub(crate) struct ParameterStore {
    parameters: Vec<NamedParameter>,
    seed: u64,
    standard_deviation: f64,
    device: Device,
}

impl ParameterStore {
    pub fn new(seed: u64, standard_deviation: f64, device: Device) -> ParameterStore {
        ParameterStore { parameters: Vec::new(), seed, standard_deviation, device }
    }

    /// Makes an fp32 parameter. What is drawn depends on seed and name alone, not on the order or the device.
    pub fn add(&mut self, name: &str, shape: &[i64], init: Init, is_head: bool) -> Tensor {
        let tensor = tch::no_grad(|| match init {
            Init::Zeros => Tensor::zeros(shape, (Kind::Float, self.device)),
            Init::Ones => Tensor::ones(shape, (Kind::Float, self.device)),
            Init::Normal => self.draw(name, shape).to_device(self.device),
            Init::NormalWithZeroRow(row) => {
                let drawn = self.draw(name, shape);
                let _ = drawn.get(row).zero_();
                drawn.to_device(self.device)
            }
        });
        let tensor = tensor.set_requires_grad(true);
        self.parameters.push(NamedParameter {
            name: name.to_owned(),
            tensor: tensor.shallow_clone(),
            decay: !["bias", "LayerNorm.weight", "layer_norm.weight"].iter().any(|part| name.contains(part)),
            is_head,
        });
        tensor
    }

    pub fn into_parameters(self) -> Vec<NamedParameter> {
        self.parameters
    }

    fn draw(&self, name: &str, shape: &[i64]) -> Tensor {
        let drawn = Tensor::empty(shape, (Kind::Float, Device::Cpu));
        fill_normal(&drawn, 0.0, self.standard_deviation, derive_seed(self.seed, name, 0))
            .expect("an fp32 tensor on the CPU");
        drawn
    }
}
