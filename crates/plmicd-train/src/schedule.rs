//! The learning rate as a function of the update.

use crate::config::{OptimizerConfig, Schedule};

/// Factor on the peak learning rate for every update of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrSchedule {
    shape: Schedule,
    warmup: u64,
    total: u64,
}

impl LrSchedule {
    /// A schedule over `total` planned updates. `None` where warm-up would not end before the last update.
    pub fn new(config: &OptimizerConfig, total: u64) -> Option<Self> {
        let warmup = match config.warmup_steps {
            Some(steps) => steps,
            None => (total as f64 * config.warmup_fraction).ceil() as u64,
        };
        // One update is the least that can be planned: a run that short goes without warm-up by share.
        let warmup = if config.warmup_steps.is_none() && warmup >= total { 0 } else { warmup };
        (warmup < total || total == 0).then_some(Self { shape: config.schedule, warmup, total })
    }

    /// Updates of warm-up.
    pub fn warmup(&self) -> u64 {
        self.warmup
    }

    /// The factor for update `step`, counted from 0; the first update of a warm-up therefore runs at 0, as in
    /// the published training.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let rest = (self.total - self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / rest).min(1.0);
        match self.shape {
            Schedule::Constant => 1.0,
            // Not 1 - done: this is the published formula, and the same to the last bit.
            Schedule::Linear => self.total.saturating_sub(step) as f64 / rest,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: Schedule, warmup: u64, total: u64) -> LrSchedule {
        let config = OptimizerConfig { schedule: shape, warmup_steps: Some(warmup), ..Default::default() };
        LrSchedule::new(&config, total).expect("warm-up is shorter than the run")
    }

    #[test]
    fn published_setting_has_the_published_rates() {
        // The README's command on MIMIC-III full: golden/heads/optimizer_and_schedule.json.
        let schedule = schedule(Schedule::Linear, 2000, 119_320);
        for (step, rate) in [
            (0, 0.0),
            (1, 2.5000000000000002e-08),
            (1000, 2.5e-05),
            (1999, 4.9975e-05),
            (2000, 5e-05),
            (2001, 4.9999573815206275e-05),
            (5966, 4.8309751108080464e-05),
            (60000, 2.5281281963859532e-05),
            (119_319, 4.2618479372655987e-10),
            (119_320, 0.0),
        ] {
            let ours = 5e-5 * schedule.factor(step);
            assert!((ours - rate).abs() <= 1e-12 * 5e-5, "update {step}: {ours} instead of {rate}");
        }
    }

    #[test]
    fn cosine_and_constant() {
        let cosine = schedule(Schedule::Cosine, 4, 12);
        assert_eq!(cosine.factor(2), 0.5);
        assert_eq!(cosine.factor(4), 1.0);
        assert!((cosine.factor(8) - 0.5).abs() < 1e-15);
        assert!(cosine.factor(12).abs() < 1e-15);
        let constant = schedule(Schedule::Constant, 4, 12);
        assert_eq!(constant.factor(1), 0.25);
        assert_eq!(constant.factor(11), 1.0);
    }

    #[test]
    fn warm_up_by_share_rounds_up_and_by_steps_must_end() {
        let by_share = LrSchedule::new(&OptimizerConfig::default(), 25).expect("a tenth of the run");
        assert_eq!(by_share.warmup(), 3);
        assert_eq!(LrSchedule::new(&OptimizerConfig::default(), 1).map(|s| s.factor(0)), Some(1.0));
        let config = OptimizerConfig { warmup_steps: Some(12), ..Default::default() };
        assert_eq!(LrSchedule::new(&config, 12), None);
    }
}
