//! Times writing and reading scores of MIMIC-III's test size (3,372 notes x 8,922 labels).
//!
//! `cargo run --release -p plmicd-data --example bench_scores DIR`
#![allow(clippy::print_stdout)]

use std::time::Instant;

use camino::Utf8PathBuf;
use plmicd_data::{ScoreWriter, Scores};

fn main() -> Result<(), plmicd_data::DataError> {
    const NOTES: usize = 3_372;
    const LABELS: usize = 8_922;
    let dir = std::env::args().nth(1).expect("a folder for the file");
    let path = Utf8PathBuf::from(dir).join("bench-scores.parquet");
    let start = Instant::now();
    let mut state = 1u64;
    let mut writer = ScoreWriter::create(&path, LABELS)?;
    for note in 0..NOTES {
        let mut score = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            1.0 / (1.0 + (8.0 - (state >> 40) as f32 / 4e6).exp())
        };
        let row: Vec<f32> = (0..LABELS).map(|_| score()).collect();
        writer.write(&note.to_string(), &row, &[1, 5, 8_000])?;
    }
    writer.finish()?;
    println!("{:>8.3} s  write, {} bytes", start.elapsed().as_secs_f64(), fs_err::metadata(&path)?.len());
    let start = Instant::now();
    let scores = Scores::read(&path)?;
    println!("{:>8.3} s  read {} notes", start.elapsed().as_secs_f64(), scores.num_notes());
    fs_err::remove_file(&path)?;
    Ok(())
}
