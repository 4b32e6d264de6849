//! What nodes need of a machine, and how many of them fit on it at once.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipeline::Node;

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
    /// The GPUs that may be used, as `CUDA_VISIBLE_DEVICES` lists them; `None` for those numbered from 0 on.
    pub visible: Option<&'static str>,
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

    /// The same, with GPUs from this list only, as `CUDA_VISIBLE_DEVICES` holds it.
    ///
    /// # Errors
    /// A list of fewer GPUs than may be used at once.
    pub fn among(self, visible: &'static str) -> Result<Capacity, String> {
        let there = listed(visible).count();
        match self.gpu {
            Some(wanted) if wanted as usize > there => {
                Err(format!("gpu={wanted}, but CUDA_VISIBLE_DEVICES=`{visible}` leaves {there} to use"))
            }
            _ => Ok(Capacity { visible: Some(visible), ..self }),
        }
    }

    /// What a child is told of the GPU in this slot.
    fn gpu_name(&self, slot: u32) -> String {
        let name = self.visible.and_then(|visible| listed(visible).nth(slot as usize));
        name.map_or_else(|| slot.to_string(), str::to_owned)
    }

    /// The first node that needs more than there is at all, and of what.
    pub fn too_small_for<'p>(&self, nodes: impl IntoIterator<Item = &'p Node>) -> Option<String> {
        nodes.into_iter().find_map(|node| {
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

/// The GPUs of a `CUDA_VISIBLE_DEVICES`: numbers or names. CUDA ignores what follows an empty or a negative one.
fn listed(visible: &str) -> impl Iterator<Item = &str> {
    visible.split(',').map(str::trim).take_while(|name| !name.is_empty() && !name.starts_with('-'))
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

    /// Takes what a node needs if it is free. The GPUs it may use, where GPUs are counted.
    pub fn take(&mut self, node: &str, needs: Needs) -> Option<Option<Vec<String>>> {
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
        Some(gpus.map(|gpus| gpus.into_iter().map(|slot| self.capacity.gpu_name(slot)).collect()))
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
        assert_eq!(capacity, Capacity { cpu: Some(8), gpu: Some(2), memory: Some(64), visible: None });
        assert_eq!(Capacity::parse("").unwrap(), Capacity::default());
        for wrong in ["gpu", "gpu=x", "gpus=1"] {
            assert!(Capacity::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_taken_twice() {
        let mut slots = Slots::new(Capacity { gpu: Some(2), memory: Some(10), ..Capacity::default() });
        let gpus = |names: &[&str]| Some(Some(names.iter().map(|name| (*name).to_owned()).collect()));
        let one = Needs { gpu: 1, memory: 4, cpu: 64, minutes: 0 };
        assert_eq!(slots.take("a", one), gpus(&["0"]));
        assert_eq!(slots.take("b", one), gpus(&["1"]));
        assert_eq!(slots.take("c", one), None);
        // Another that needs no GPU finds the rest of the memory.
        assert_eq!(slots.take("d", Needs { memory: 2, ..Needs::default() }), gpus(&[]));
        assert_eq!(slots.take("e", Needs { memory: 1, ..Needs::default() }), None);
        slots.release("a");
        assert_eq!(slots.take("c", one), gpus(&["0"]));
    }

    #[test]
    fn gpus_are_those_that_the_caller_may_use() {
        let two = Capacity { gpu: Some(2), ..Capacity::default() };
        let mut slots = Slots::new(two.among(" 4, GPU-8f,6").unwrap());
        let one = Needs { gpu: 1, ..Needs::default() };
        assert_eq!(slots.take("a", one), Some(Some(vec!["4".to_owned()])));
        assert_eq!(slots.take("b", one), Some(Some(vec!["GPU-8f".to_owned()])));
        assert_eq!(slots.take("c", one), None);
        for (few, there) in [("", 0), ("3", 1), ("3,-1,4", 1)] {
            let refused = two.among(few).unwrap_err();
            assert_eq!(refused, format!("gpu=2, but CUDA_VISIBLE_DEVICES=`{few}` leaves {there} to use"));
        }
        // Where GPUs are not counted, children see what the caller sees.
        assert_eq!(Slots::new(Capacity::default().among("").unwrap()).take("a", one), Some(None));
    }
}
