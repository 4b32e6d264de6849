//! Axes: from values to places, and round tick values.

/// How values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From the lowest to the highest value.
    Linear,
    /// From 0 to a round number above the highest value.
    LinearFromZero,
    /// From 0 to 1.
    Unit,
    /// Logarithmic; all values must be positive.
    Log,
}

/// An axis of a chart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    logarithmic: bool,
    low: f64,
    high: f64,
    step: f64,
    /// Places of `low` and `high`.
    from: f64,
    to: f64,
}

/// Ticks aimed at.
const TICKS: f64 = 6.0;

impl Axis {
    pub fn new(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let finite: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
        let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if finite.is_empty() { (0.0, 1.0) } else { (low, high) };
        let (low, mut high) = match scale {
            Scale::Linear => (low, high),
            Scale::LinearFromZero => (0.0, high),
            Scale::Unit => (0.0, 1.0),
            Scale::Log => {
                // Powers of ten are the ticks, with 2 and 5 between.
                return Self { logarithmic: true, low, high: high.max(low * 1.01), step: 0.0, from, to };
            }
        };
        if high <= low {
            high = low + 1.0;
        }
        let step = round_step((high - low) / TICKS);
        if scale == Scale::LinearFromZero {
            high = (high / step - 1e-9).ceil() * step;
        }
        Self { logarithmic: false, low, high, step, from, to }
    }

    /// Place of a value.
    pub fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Distance of the ticks; 0 on a logarithmic axis.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// Round values on the axis.
    pub fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            return self.log_ticks();
        }
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last).map(|index| index as f64 * self.step).collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let few = (self.high / self.low).log10() < 3.0;
        let factors: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
        decades
            .flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)))
            .filter(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick))
            .collect()
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(rough)
}

/// Text of a tick: as many decimals as the step needs; thousands as `k`.
pub(crate) fn tick_text(value: f64, step: f64) -> String {
    if step >= 1000.0 {
        return if value == 0.0 { "0".to_owned() } else { format!("{}k", value / 1000.0) };
    }
    if step == 0.0 {
        return format!("{value}");
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|tick| tick_text(tick, axis.step())).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let axis = Axis::new(Scale::LinearFromZero, [0.31, 0.68].into_iter(), 0.0, 100.0);
        assert_eq!(texts(&axis), ["0.0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!((axis.place(0.0), axis.place(0.8)), (0.0, 100.0));
        let axis = Axis::new(Scale::Unit, [0.3].into_iter(), 0.0, 100.0);
        assert_eq!(texts(&axis), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let axis = Axis::new(Scale::Linear, [1.0, 12_000.0].into_iter(), 0.0, 100.0);
        assert_eq!(texts(&axis), ["2k", "4k", "6k", "8k", "10k", "12k"]);
        let axis = Axis::new(Scale::Linear, [1.0, 4.0].into_iter(), 0.0, 90.0);
        assert_eq!((axis.place(1.0), axis.place(2.0)), (0.0, 30.0));
    }

    #[test]
    fn logarithmic_ticks_are_decades_and_parts() {
        let axis = Axis::new(Scale::Log, [0.02, 0.7].into_iter(), 0.0, 100.0);
        assert_eq!(texts(&axis), ["0.02", "0.05", "0.1", "0.2", "0.5"]);
        assert!((axis.place(0.02f64 * 35f64.sqrt()) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_single_value_has_a_place() {
        for scale in [Scale::Linear, Scale::LinearFromZero, Scale::Log, Scale::Unit] {
            let axis = Axis::new(scale, [0.5].into_iter(), 0.0, 100.0);
            assert!(axis.place(0.5).is_finite() && !axis.ticks().is_empty(), "{scale:?}");
        }
        assert!(Axis::new(Scale::Linear, [].into_iter(), 0.0, 1.0).place(0.5).is_finite());
    }
}
