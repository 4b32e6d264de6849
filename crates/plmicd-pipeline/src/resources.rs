//! What nodes need of a machine, and how many of them fit on it at once.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipeline::Pipeline;

/// What a node needs while it runs; never part of a key. Zero means: not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Needs {
    /// CPU cores.
    pub cpu: u32,
    /// GPUs.
    pub gpu: u32,
    /// Memory in GiB.
    pub memory: u32,
    /// Minutes at most, for schedulers of clusters.
    pub minutes: u32,
}

/// What may be used at once; `None` is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capacity {
    /// CPU cores.
    pub cpu: Option<u32>,
    /// GPUs.
    pub gpu: Option<u32>,
    /// Memory in GiB.
    pub memory: Option<u32>,
}

impl Capacity {
    /// Reads `cpu=8,gpu=2,memory=64`.
    pub fn parse(text: &str) -> Result<Capacity, String> {
        let mut capacity = Capacity::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, amount) =
                part.split_once('=').ok_or_else(|| format!("`{part}`: expected such as `gpu=2`"))?;
            let amount: u32 =
                amount.trim().parse().map_err(|_| format!("`{part}`: expected a whole number after `=`"))?;
            match name.trim() {
                "cpu" => capacity.cpu = Some(amount),
                "gpu" => capacity.gpu = Some(amount),
                "memory" => capacity.memory = Some(amount),
                other => return Err(format!("`{other}` is not counted; expected cpu, gpu or memory (GiB)")),
            }
        }
        Ok(capacity)
    }

    /// The first node that needs more than there is at all, and of what.
    pub fn too_small_for(&self, pipeline: &Pipeline) -> Option<String> {
        pipeline.nodes.iter().find_map(|node| {
            let needs = node.runtime.needs;
            let amounts = [
                ("cpu", needs.cpu, self.cpu),
                ("gpu", needs.gpu, self.gpu),
                ("memory", needs.memory, self.memory),
            ];
            amounts.into_iter().find_map(|(name, needed, there)| {
                let there = there.filter(|there| needed > *there)?;
                Some(format!("`{}` needs {name} = {needed}, but there is {there}", node.name))
            })
        })
    }
}

/// What is taken, and by whom.
#[derive(Debug)]
pub(crate) struct Slots {
    capacity: Capacity,
    taken: BTreeMap<String, Needs>,
    gpus: BTreeMap<String, BTreeSet<u32>>,
}

impl Slots {
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, taken: BTreeMap::new(), gpus: BTreeMap::new() }
    }

    /// Takes what a node needs if it is free. The numbers of the GPUs it may use, where GPUs are counted.
    pub fn take(&mut self, node: &str, needs: Needs) -> Option<Option<Vec<u32>>> {
        let free = |there: Option<u32>, of: fn(&Needs) -> u32| {
            there.is_none_or(|there| self.taken.values().map(of).sum::<u32>() + of(&needs) <= there)
        };
        if !free(self.capacity.cpu, |n| n.cpu)
            || !free(self.capacity.gpu, |n| n.gpu)
            || !free(self.capacity.memory, |n| n.memory)
        {
            return None;
        }
        let gpus = self.capacity.gpu.map(|count| {
            let busy: BTreeSet<u32> = self.gpus.values().flatten().copied().collect();
            (0..count).filter(|gpu| !busy.contains(gpu)).take(needs.gpu as usize).collect::<Vec<u32>>()
        });
        self.taken.insert(node.to_owned(), needs);
        if let Some(gpus) = &gpus {
            self.gpus.insert(node.to_owned(), gpus.iter().copied().collect());
        }
        Some(gpus)
    }

    pub fn release(&mut self, node: &str) {
        self.taken.remove(node);
        self.gpus.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities_are_read() {
        let capacity = Capacity::parse("cpu=8, gpu=2,memory=64").unwrap();
        assert_eq!(capacity, Capacity { cpu: Some(8), gpu: Some(2), memory: Some(64) });
        assert_eq!(Capacity::parse("").unwrap(), Capacity::default());
        for wrong in ["gpu", "gpu=x", "gpus=1"] {
            assert!(Capacity::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_taken_twice() {
        let mut slots = Slots::new(Capacity { gpu: Some(2), memory: Some(10), cpu: None });
        let one = Needs { gpu: 1, memory: 4, cpu: 64, minutes: 0 };
        assert_eq!(slots.take("a", one), Some(Some(vec![0])));
        assert_eq!(slots.take("b", one), Some(Some(vec![1])));
        assert_eq!(slots.take("c", one), None);
        // Another that needs no GPU finds the rest of the memory.
        assert_eq!(slots.take("d", Needs { memory: 2, ..Needs::default() }), Some(Some(vec![])));
        assert_eq!(slots.take("e", Needs { memory: 1, ..Needs::default() }), None);
        slots.release("a");
        assert_eq!(slots.take("c", one), Some(Some(vec![0])));
    }
}
