//! A stretch of text learnt on a private copy of the rows it touches.

use std::ops::Range;

use crate::config::{EmbedConfig, EmbedModel};
use crate::random::Random;
use crate::words::{NegativeSampler, Text};

/// Where products are cut off before the logistic function, as in word2vec.
const MAX_PRODUCT: f32 = 6.0;

/// Places of the table of the logistic function.
const TABLE: usize = 1024;

/// What learning needs beside the vectors; the same for all strands.
pub(crate) struct Setting<'a> {
    pub config: &'a EmbedConfig,
    pub kept_shares: Vec<f64>,
    pub negatives: NegativeSampler,
    logistic: Vec<f32>,
}

impl<'a> Setting<'a> {
    pub fn new(config: &'a EmbedConfig, kept_shares: Vec<f64>, negatives: NegativeSampler) -> Self {
        let value = |at: usize| {
            let product = (at as f64 + 0.5) / TABLE as f64 * 2.0 - 1.0;
            (1.0 / (1.0 + (-product * f64::from(MAX_PRODUCT)).exp())) as f32
        };
        Self { config, kept_shares, negatives, logistic: (0..TABLE).map(value).collect() }
    }

    fn logistic(&self, product: f32) -> f32 {
        if product >= MAX_PRODUCT {
            1.0
        } else if product <= -MAX_PRODUCT {
            0.0
        } else {
            let at = (product / MAX_PRODUCT + 1.0) * (TABLE as f32 / 2.0);
            self.logistic[(at as usize).min(TABLE - 1)]
        }
    }
}

/// Rows of a matrix that were touched, each copied when it is first asked for.
pub(crate) struct Rows {
    width: usize,
    /// Where a word's copy lies, valid where `round_of` says so.
    place_of: Vec<u32>,
    round_of: Vec<u32>,
    /// The words whose rows were copied, in order of their copies.
    touched: Vec<u32>,
    values: Vec<f32>,
}

impl Rows {
    pub fn new(words: usize, width: usize) -> Self {
        Self {
            width,
            place_of: vec![0; words],
            round_of: vec![0; words],
            touched: Vec::new(),
            values: Vec::new(),
        }
    }

    fn clear(&mut self) {
        self.touched.clear();
        self.values.clear();
    }

    /// Where the copy of a word's row lies, copied from `shared` if it is not here yet.
    fn place(&mut self, word: u32, round: u32, shared: &[f32]) -> usize {
        let index = word as usize;
        if self.round_of[index] == round {
            return self.place_of[index] as usize;
        }
        let place = self.touched.len();
        self.round_of[index] = round;
        self.place_of[index] = place as u32;
        self.touched.push(word);
        self.values.extend_from_slice(&shared[index * self.width..][..self.width]);
        place
    }

    fn row(&self, place: usize) -> &[f32] {
        &self.values[place * self.width..][..self.width]
    }

    fn row_mut(&mut self, place: usize) -> &mut [f32] {
        &mut self.values[place * self.width..][..self.width]
    }

    /// The words whose rows were touched since the last [`clear`](Self::clear).
    pub fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// A word's own row, where it was touched in this round.
    pub fn changed(&self, word: u32, round: u32) -> Option<&[f32]> {
        let index = word as usize;
        (self.round_of[index] == round).then(|| self.row(self.place_of[index] as usize))
    }
}

/// The private copies of one strand, and what it counted.
pub(crate) struct Strand {
    pub inputs: Rows,
    pub outputs: Rows,
    /// Sum of the losses of the pairs, and their number.
    pub loss: f64,
    pub pairs: u64,
    hidden: Vec<f32>,
    error: Vec<f32>,
}

impl Strand {
    pub fn new(words: usize, width: usize) -> Self {
        Self {
            inputs: Rows::new(words, width),
            outputs: Rows::new(words, width),
            loss: 0.0,
            pairs: 0,
            hidden: vec![0.0; width],
            error: vec![0.0; width],
        }
    }

    /// Learns the words at some places of a text, from the shared vectors as they are at the start of the round. `round`
    /// counts from 1.
    pub fn learn(
        &mut self,
        text: &Text,
        places: Range<usize>,
        setting: &Setting<'_>,
        inputs: &[f32],
        outputs: &[f32],
        rate: f32,
        round: u32,
        mut random: Random,
    ) {
        self.inputs.clear();
        self.outputs.clear();
        (self.loss, self.pairs) = (0.0, 0);
        for (note, middles) in text.notes_in(places) {
            for middle in middles {
                let window = 1 + random.below(setting.config.window);
                let start = middle.saturating_sub(window);
                let end = (middle + window + 1).min(note.len());
                let around = (start..end).filter(|at| *at != middle).map(|at| note[at]);
                match setting.config.model {
                    EmbedModel::SkipGram => {
                        for word in around {
                            self.skip_gram(
                                word,
                                note[middle],
                                setting,
                                inputs,
                                outputs,
                                rate,
                                round,
                                &mut random,
                            );
                        }
                    }
                    EmbedModel::Cbow => {
                        self.cbow(around, note[middle], setting, inputs, outputs, rate, round, &mut random);
                    }
                }
            }
        }
    }

    fn skip_gram(
        &mut self,
        word: u32,
        target: u32,
        setting: &Setting<'_>,
        inputs: &[f32],
        outputs: &[f32],
        rate: f32,
        round: u32,
        random: &mut Random,
    ) {
        let place = self.inputs.place(word, round, inputs);
        self.hidden.copy_from_slice(self.inputs.row(place));
        self.predict(target, setting, outputs, rate, round, random);
        add(self.inputs.row_mut(place), &self.error, 1.0);
    }

    fn cbow(
        &mut self,
        around: impl Iterator<Item = u32> + Clone,
        target: u32,
        setting: &Setting<'_>,
        inputs: &[f32],
        outputs: &[f32],
        rate: f32,
        round: u32,
        random: &mut Random,
    ) {
        self.hidden.fill(0.0);
        let mut count = 0;
        for word in around.clone() {
            let place = self.inputs.place(word, round, inputs);
            add(&mut self.hidden, self.inputs.row(place), 1.0);
            count += 1;
        }
        if count == 0 {
            return;
        }
        let share = 1.0 / count as f32;
        self.hidden.iter_mut().for_each(|value| *value *= share);
        self.predict(target, setting, outputs, rate, round, random);
        for word in around {
            let place = self.inputs.place(word, round, inputs);
            add(self.inputs.row_mut(place), &self.error, 1.0);
        }
    }

    /// Tells the true word from drawn ones given `hidden`; leaves in `error` what is to be added to what `hidden` was
    /// made of.
    fn predict(
        &mut self,
        target: u32,
        setting: &Setting<'_>,
        outputs: &[f32],
        rate: f32,
        round: u32,
        random: &mut Random,
    ) {
        self.error.fill(0.0);
        self.pairs += 1;
        for at in 0..=setting.config.negative {
            let (word, truth) = if at == 0 { (target, 1.0) } else { (setting.negatives.draw(random), 0.0) };
            if at > 0 && word == target {
                continue;
            }
            let place = self.outputs.place(word, round, outputs);
            let row = self.outputs.row_mut(place);
            let score = setting.logistic(dot(&self.hidden, row));
            let right = if at == 0 { score } else { 1.0 - score };
            self.loss -= f64::from(right.max(1e-4)).ln();
            let step = (truth - score) * rate;
            add(&mut self.error, row, step);
            add(row, &self.hidden, step);
        }
    }
}

/// Sums in a fixed order of eight, whatever the machine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (whole_a, rest_a) = a.as_chunks::<8>();
    let (whole_b, rest_b) = b.as_chunks::<8>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn add(to: &mut [f32], what: &[f32], times: f32) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += what * times);
}
