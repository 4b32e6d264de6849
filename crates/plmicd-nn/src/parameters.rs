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
    /// Whether it belongs to what stands above the encoder.
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
    /// Normal with mean 0 and this standard deviation.
    NormalOf(f64),
    /// The store's, with one row of zeros: that of the padding token.
    NormalWithZeroRow(i64),
    /// Normal with mean 0 and this standard deviation, with one row of zeros.
    EmbeddingNormal {
        standard_deviation: f64,
        zero_row: i64,
    },
    /// Uniform between plus and minus this (PyTorch's start of LSTMs, and of biases of linear and convolution layers).
    Uniform(f64),
    /// Uniform between plus and minus `sqrt(6 / (inputs + outputs))` (Glorot and Bengio 2010), from the shape: the first
    /// dimension is the outputs, the product of what follows the second multiplies both.
    Xavier,
    Zeros,
    Ones,
}

/// Makes parameters and keeps a handle on each, in the order in which they were made.
pub(crate) struct ParameterStore {
    parameters: Vec<NamedParameter>,
    seed: u64,
    standard_deviation: f64,
    device: Device,
    /// Whether what is made belongs to the head, whatever the block that makes it says.
    in_head: bool,
}

impl ParameterStore {
    pub fn new(seed: u64, standard_deviation: f64, device: Device) -> ParameterStore {
        ParameterStore { parameters: Vec::new(), seed, standard_deviation, device, in_head: false }
    }

    /// Makes an fp32 parameter. What is drawn depends on seed and name alone, not on the order or the device.
    pub fn add(&mut self, name: &str, shape: &[i64], init: Init, is_head: bool) -> Tensor {
        let decay = !["bias", "LayerNorm.weight", "layer_norm.weight", "layernorm.weight"]
            .iter()
            .any(|part| name.contains(part));
        self.add_with_decay(name, shape, init, is_head, decay)
    }

    /// The same, where whether weight decay applies does not show in the name.
    pub fn add_with_decay(
        &mut self,
        name: &str,
        shape: &[i64],
        init: Init,
        is_head: bool,
        decay: bool,
    ) -> Tensor {
        let tensor = tch::no_grad(|| match init {
            Init::Zeros => Tensor::zeros(shape, (Kind::Float, self.device)),
            Init::Ones => Tensor::ones(shape, (Kind::Float, self.device)),
            Init::Normal => self.draw(name, shape, self.standard_deviation).to_device(self.device),
            Init::NormalOf(deviation) => self.draw(name, shape, deviation).to_device(self.device),
            Init::NormalWithZeroRow(row) => {
                let drawn = self.draw(name, shape, self.standard_deviation);
                let _ = drawn.get(row).zero_();
                drawn.to_device(self.device)
            }
            Init::EmbeddingNormal { standard_deviation, zero_row } => {
                let drawn = self.draw(name, shape, standard_deviation);
                let _ = drawn.get(zero_row).zero_();
                drawn.to_device(self.device)
            }
            Init::Uniform(bound) => self.draw_uniform(name, shape, bound).to_device(self.device),
            Init::Xavier => {
                let field: i64 = shape[2..].iter().product();
                let bound = (6.0 / ((shape[0] + shape[1]) * field) as f64).sqrt();
                self.draw_uniform(name, shape, bound).to_device(self.device)
            }
        });
        let tensor = tensor.set_requires_grad(true);
        self.parameters.push(NamedParameter {
            name: name.to_owned(),
            tensor: tensor.shallow_clone(),
            decay,
            is_head: is_head || self.in_head,
        });
        tensor
    }

    /// From here on everything belongs to the head: blocks that encoders are made of may then be used there.
    pub fn enter_head(&mut self) {
        self.in_head = true;
    }

    pub fn into_parameters(self) -> Vec<NamedParameter> {
        self.parameters
    }

    /// By inverting the normal distribution's: uniform draws have no operation of their own that takes a seed.
    fn draw_uniform(&self, name: &str, shape: &[i64], bound: f64) -> Tensor {
        let normal = self.draw(name, shape, 1.0).to_kind(Kind::Double);
        let uniform = (normal / std::f64::consts::SQRT_2).erf() * bound;
        uniform.to_kind(Kind::Float)
    }

    fn draw(&self, name: &str, shape: &[i64], standard_deviation: f64) -> Tensor {
        let drawn = Tensor::empty(shape, (Kind::Float, Device::Cpu));
        fill_normal(&drawn, 0.0, standard_deviation, derive_seed(self.seed, name, 0))
            .expect("an fp32 tensor on the CPU");
        drawn
    }
}
