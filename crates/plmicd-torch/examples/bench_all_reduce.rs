//! Times the sum of a gradient over two processes of this machine: what training together waits for once an update, and what
//! summing during the backward pass could save at most.
//!
//!     cargo run --release -p plmicd-torch --features distributed --example bench_all_reduce [VALUES]
//!
//! VALUES is the number of fp32 values, 125,000,000 (RoBERTa-base's) by default.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use plmicd_torch::distributed::{Group, Meeting, Membership, Store};
use tch::{Device, Kind, Tensor};

const TIMES: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let values = arguments.first().map_or(Ok(125_000_000), |text| text.parse())?;
    match arguments.get(1) {
        // The second process, started below.
        Some(port) => sums(1, port.parse()?, values).map(|_| ()),
        None => {
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let second = [values.to_string(), port.to_string()];
            let mut second = Command::new(std::env::current_exe()?).args(second).spawn()?;
            let mut times = sums(0, port, values)?;
            second.wait()?;
            times.sort_unstable();
            println!(
                "sum of {values} values over 2 processes: {:.3} s, median of {TIMES} ({:.2} GB/s of gradient)",
                times[TIMES / 2].as_secs_f64(),
                values as f64 * 4e-9 / times[TIMES / 2].as_secs_f64()
            );
            Ok(())
        }
    }
}

fn sums(rank: usize, port: u16, values: i64) -> Result<Vec<Duration>, Box<dyn Error>> {
    plmicd_torch::set_intra_op_threads(1);
    let timeout = Duration::from_secs(60);
    let store = Store::open(&Meeting { host: "127.0.0.1".into(), port, is_host: rank == 0, timeout })?;
    let membership =
        Membership { prefix: "bench".into(), rank, size: 2, timeout, interface: None, is_local: true };
    let group = Group::join(&store, &membership)?;
    let gradient = Tensor::ones([values], (Kind::Float, Device::Cpu));
    group.all_reduce(&gradient)?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let _ = gradient.shallow_clone().fill_(1.0);
        group.all_reduce(&Tensor::from_slice(&[0i64]))?;
        let start = Instant::now();
        group.all_reduce(&gradient)?;
        times.push(start.elapsed());
    }
    assert!((gradient.double_value(&[values - 1]) - 2.0).abs() < 1e-6, "the sum is wrong");
    // Nobody leaves while the other one still sums.
    group.all_reduce(&Tensor::from_slice(&[0i64]))?;
    Ok(times)
}
