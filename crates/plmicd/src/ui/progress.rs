//! Progress of a run: bars on a terminal, plain lines elsewhere, both with rate and time left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use plmicd_pipeline::execute::RunObserver;
use plmicd_pipeline::fingerprint::Reason;
use plmicd_pipeline::run_record::{NodeRecord, Outcome};
use plmicd_pipeline::{Event, EventRecord};

use crate::ui::{Terminal, text};

/// Follows the nodes of a run and draws them.
pub struct Progress {
    terminal: Terminal,
    bars: MultiProgress,
    nodes: BTreeMap<String, NodeProgress>,
    every: Duration,
    width: usize,
}

struct NodeProgress {
    bar: Option<ProgressBar>,
    phase: String,
    phase_started: Instant,
    /// What had been done when the phase was first heard of: a resumed phase does not begin at 0.
    phase_base: u64,
    /// When it was last heard of, and how far it was.
    seen: (Instant, u64),
    /// Of phases that may come again: seconds they have taken, and what was done in them.
    before: BTreeMap<String, (f64, f64)>,
    last_line: Instant,
    metrics: BTreeMap<String, f64>,
}

impl Progress {
    /// `names` are the nodes, for the width of the first column; `log_seconds` the pause between plain lines.
    pub fn new<'n>(terminal: &Terminal, names: impl Iterator<Item = &'n str>, log_seconds: u64) -> Self {
        Self {
            terminal: terminal.clone(),
            bars: MultiProgress::new(),
            nodes: BTreeMap::new(),
            every: Duration::from_secs(log_seconds.max(1)),
            width: names.map(str::len).max().unwrap_or(0),
        }
    }

    /// A line above the bars, or just a line.
    fn line(&self, node: &str, what: &str) {
        if self.terminal.silent {
            return;
        }
        let text = format!("{:>width$}  {what}", self.terminal.paint("1", node), width = self.padded());
        if self.terminal.bars {
            let _ = self.bars.println(text);
        } else {
            self.terminal.say(&text);
        }
    }

    /// Column width; ANSI codes count as characters for `format!`.
    fn padded(&self) -> usize {
        self.width + if self.terminal.color { 8 } else { 0 }
    }

    fn progress(&mut self, node: &str, phase: &str, done: u64, total: Option<u64>, unit: &str) {
        if self.terminal.silent {
            return;
        }
        let (bars, width, draw) = (&self.bars, self.width, self.terminal.bars);
        let state = self.nodes.entry(node.to_owned()).or_insert_with(|| NodeProgress {
            bar: None,
            phase: String::new(),
            phase_started: Instant::now(),
            phase_base: done,
            seen: (Instant::now(), done),
            before: BTreeMap::new(),
            last_line: Instant::now(),
            metrics: BTreeMap::new(),
        });
        if state.phase != phase {
            // Training goes on after an evaluation: its rate is that of all its stretches.
            let seconds = (state.seen.0 - state.phase_started).as_secs_f64();
            let before = state.before.entry(std::mem::take(&mut state.phase)).or_default();
            *before = (before.0 + seconds, before.1 + state.seen.1.saturating_sub(state.phase_base) as f64);
            phase.clone_into(&mut state.phase);
            state.phase_started = Instant::now();
            state.phase_base = done;
            if let Some(bar) = state.bar.take() {
                bar.finish_and_clear();
            }
        }
        state.seen = (Instant::now(), done);
        let before = state.before.get(phase).copied().unwrap_or_default();
        let elapsed = before.0 + state.phase_started.elapsed().as_secs_f64();
        let fresh = before.1 + done.saturating_sub(state.phase_base) as f64;
        let rate = if elapsed > 0.5 { fresh / elapsed } else { 0.0 };
        let status = describe(done, total, unit, rate, &state.metrics);
        if draw {
            let bar = state.bar.get_or_insert_with(|| bars.add(new_bar(node, width, total.is_some())));
            bar.set_length(total.unwrap_or(0));
            bar.set_position(done);
            bar.set_message(format!("{phase}  {status}"));
        } else if state.last_line.elapsed() >= self.every {
            state.last_line = Instant::now();
            let line = format!("{phase}: {status}");
            self.line(node, &line);
        }
    }

    /// Takes a node's bar away.
    pub fn clear(&mut self, node: &str) {
        if let Some(bar) = self.nodes.remove(node).and_then(|state| state.bar) {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(node: &str, width: usize, bounded: bool) -> ProgressBar {
    let template = if bounded {
        "{prefix}  {bar:16} {percent:>3}%  {wide_msg}"
    } else {
        "{prefix}  {spinner}  {wide_msg}"
    };
    let bar = ProgressBar::new(0).with_prefix(format!("{node:>width$}"));
    // The template is a constant: it is only refused if it has a slip, and then the default does.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// `1,234 of 5,000 notes, 310/s, 12 s left, loss 0.0312`.
fn describe(done: u64, total: Option<u64>, unit: &str, rate: f64, metrics: &BTreeMap<String, f64>) -> String {
    let amount = |n: u64| if unit == "bytes" { text::bytes(n) } else { text::count(n) };
    let mut parts = vec![match total {
        Some(total) => format!("{} of {}", amount(done), amount(total)),
        None => amount(done),
    }];
    if unit != "bytes" {
        parts[0] = format!("{} {unit}", parts[0]);
    }
    if rate > 0.0 {
        parts.push(match (unit, rate) {
            ("bytes", rate) => format!("{}/s", text::bytes(rate as u64)),
            (_, rate) if rate >= 10.0 => format!("{rate:.0}/s"),
            (_, rate) => format!("{rate:.1}/s"),
        });
        if let Some(total) = total
            && total > done
        {
            parts.push(format!("{} left", text::duration((total - done) as f64 / rate)));
        }
    }
    parts.extend(["loss", "dev_micro_f1"].iter().filter_map(|name| {
        let value = metrics.get(*name)?;
        Some(format!("{} {value:.4}", name.replace('_', " ")))
    }));
    parts.join(", ")
}

impl RunObserver for Progress {
    fn starting(&mut self, node: &str, reasons: &[Reason]) {
        self.line(node, &format!("runs: {}", text::reasons(reasons)));
    }

    fn event(&mut self, record: &EventRecord) {
        let node = record.node.as_str();
        match &record.event {
            Event::Progress { phase, done, total, unit } => self.progress(node, phase, *done, *total, unit),
            Event::Metrics { values, .. } => {
                if let Some(state) = self.nodes.get_mut(node) {
                    state.metrics.extend(values.clone());
                }
            }
            Event::Warning { message } => {
                let text = format!("{} {message}", self.terminal.paint("33;1", "warning:"));
                self.line(node, &text);
            }
            Event::Note { message } => self.line(node, message),
            Event::Waiting => self.line(node, "waits: another process is making this output"),
            Event::Started { .. } | Event::Finished { .. } | Event::Failed { .. } | Event::Interrupted => {}
        }
    }

    fn ended(&mut self, node: &str, record: &NodeRecord) {
        self.clear(node);
        let artifact = record
            .artifact
            .as_ref()
            .map_or(String::new(), |(kind, digest)| format!("{kind} {}", digest.short()));
        let time = text::duration(record.seconds);
        match record.outcome {
            Outcome::Cached => self.line(node, &format!("cached: {artifact}")),
            Outcome::Done => {
                self.line(node, &format!("{}: {artifact} in {time}", self.terminal.paint("32", "done")))
            }
            Outcome::Failed => {
                self.line(node, &format!("{} after {time}", self.terminal.paint("31;1", "failed")))
            }
            Outcome::Interrupted => {
                self.line(node, &format!("stopped after {time}; the same command goes on"))
            }
            Outcome::NotRun => self.line(node, "not run"),
        }
    }

    fn tick(&mut self) {
        for state in self.nodes.values() {
            if let Some(bar) = &state.bar {
                bar.tick();
            }
        }
    }
}
