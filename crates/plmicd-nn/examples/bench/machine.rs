//! What the machine can do at most.

use std::fmt;
use std::time::Instant;

use plmicd_nn::Precision;
use tch::{Device, Kind, Tensor};

/// Rates of large square matrix products, in floating-point operations a second.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    pub size: i64,
    fp32: f64,
    bf16: Option<f64>,
    tf32: Option<f64>,
}

impl Peak {
    pub fn measure(device: Device, precisions: &[Precision]) -> Peak {
        let size = if device == Device::Cpu { 3072 } else { 8192 };
        let is_asked = |precision| precisions.contains(&precision);
        plmicd_torch::allow_tf32(true);
        let tf32 = is_asked(Precision::Tf32).then(|| rate(size, Kind::Float, device));
        plmicd_torch::allow_tf32(false);
        Peak {
            size,
            fp32: rate(size, Kind::Float, device),
            bf16: is_asked(Precision::Bf16).then(|| rate(size, Kind::BFloat16, device)),
            tf32,
        }
    }

    /// The peak of this number format, where it was measured.
    pub fn of(&self, precision: Precision) -> Option<f64> {
        match precision {
            Precision::Bf16 => self.bf16,
            Precision::Tf32 => self.tf32,
            _ => Some(self.fp32),
        }
    }
}

impl fmt::Display for Peak {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "fp32 {:.1} GFLOP/s", self.fp32 / 1e9)?;
        if let Some(rate) = self.tf32 {
            write!(out, ", tf32 {:.1} GFLOP/s", rate / 1e9)?;
        }
        match self.bf16 {
            Some(rate) => write!(out, ", bf16 {:.1} GFLOP/s", rate / 1e9),
            None => write!(out, "; bf16 not measured"),
        }
    }
}

fn rate(size: i64, kind: Kind, device: Device) -> f64 {
    let draw = || Tensor::randn([size, size], (Kind::Float, device)).to_kind(kind);
    let (a, b, product) = (draw(), draw(), draw());
    let wait = || {
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
    };
    // Into memory that is there already: new pages would count as work of the product.
    let once = || {
        wait();
        let start = Instant::now();
        let _ = a.matmul_out(&product, &b);
        wait();
        start.elapsed().as_secs_f64()
    };
    once();
    let fastest = (0..20).map(|_| once()).fold(f64::INFINITY, f64::min);
    2.0 * (size as f64).powi(3) / fastest
}
