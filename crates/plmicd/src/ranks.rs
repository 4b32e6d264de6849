//! Several processes on one pipeline: what their launcher says in the environment.

use plmicd_pipeline::Ranks;

use crate::failure::Failure;

/// This process's place among those that were started together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub rank: usize,
    pub size: usize,
    local_rank: usize,
    gpu: usize,
    local_size: usize,
    pub host: String,
    pub port: u16,
    /// The launcher keeps a store at that port itself.
    agent_store: bool,
    /// Which start of the same processes it is, where the launcher starts them again after a failure.
    attempt: String,
    interface: Option<String>,
}

impl Place {
    /// From the variables that torchrun sets, or srun together with `MASTER_ADDR` and `MASTER_PORT`. `None` for a process
    /// alone.
    pub fn from_environment() -> Result<Option<Self>, Failure> {
        let place = Self::read(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
        if place.is_some() && !available() {
            return Err(Failure::usage(
                "WORLD_SIZE says that several processes are to work together, but this build cannot\nhint: build it with \
                 `--features distributed`, or unset WORLD_SIZE",
            ));
        }
        Ok(place)
    }

    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, Failure> {
        let number = |name: &str| -> Result<Option<usize>, Failure> {
            let Some(text) = variable(name) else { return Ok(None) };
            let number = text.parse().map_err(|_| {
                Failure::usage(format!("the environment variable {name} is not a whole number: `{text}`"))
            })?;
            Ok(Some(number))
        };
        let meets = variable("MASTER_ADDR").is_some() && variable("MASTER_PORT").is_some();
        // A batch script has some of Slurm's variables too; a step of srun has a number.
        let in_step = variable("SLURM_STEP_ID").is_some_and(|step| step.parse::<u64>().is_ok());
        let by_slurm = variable("WORLD_SIZE").is_none() && meets && in_step;
        let names = match by_slurm {
            true => ["SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"],
            false => ["WORLD_SIZE", "RANK", "LOCAL_RANK"],
        };
        let Some(size) = number(names[0])?.filter(|&size| size > 1) else { return Ok(None) };
        let missing = |name: &str| {
            Failure::usage(format!("{} is {size}, but {name} is not set: is a launcher missing?", names[0]))
        };
        let rank = number(names[1])?.ok_or_else(|| missing(names[1]))?;
        if rank >= size {
            return Err(Failure::usage(format!("{} is {rank}, but there are {size} processes", names[1])));
        }
        let host = variable("MASTER_ADDR").ok_or_else(|| missing("MASTER_ADDR"))?;
        let port = variable("MASTER_PORT").ok_or_else(|| missing("MASTER_PORT"))?;
        let port = port.parse().map_err(|_| {
            Failure::usage(format!("the environment variable MASTER_PORT is no port: `{port}`"))
        })?;
        let on_this_machine = host == "localhost" || host.starts_with("127.") || host == "::1";
        let usual = if on_this_machine { size } else { 1 };
        let local_size = number("LOCAL_WORLD_SIZE")?.unwrap_or(usual).clamp(1, size);
        let usual = if on_this_machine { rank } else { 0 };
        let local_rank = number(names[2])?.unwrap_or(usual);
        // Slurm may have given each task a GPU of its own: the only one that it sees. Two tasks may see the same one where it
        // was not asked for by task.
        let by_task = variable("SLURM_GPUS_PER_TASK").is_some()
            || variable("SLURM_TRES_PER_TASK").is_some_and(|tres| tres.contains("gpu"));
        let sees_one = by_task
            && variable("CUDA_VISIBLE_DEVICES").is_some_and(|devices| devices.split(',').count() == 1);
        Ok(Some(Self {
            rank,
            size,
            local_rank,
            gpu: if by_slurm && sees_one { 0 } else { local_rank },
            local_size,
            host,
            port,
            agent_store: variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True"),
            attempt: variable("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".to_owned()),
            interface: variable("GLOO_SOCKET_IFNAME"),
        }))
    }

    /// Whether this process leads.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Whether this process has to keep the store where all meet.
    pub fn is_host(&self) -> bool {
        self.is_first() && !self.agent_store
    }

    /// A key in that store.
    pub fn key(&self, name: &str) -> String {
        format!("plmicd/{}/{name}", self.attempt)
    }

    /// The same for a stage.
    pub fn ranks(&self, name: &str, is_host: bool) -> Ranks {
        Ranks {
            rank: self.rank,
            size: self.size,
            local_rank: self.local_rank,
            gpu: self.gpu,
            local_size: self.local_size,
            host: self.host.clone(),
            port: self.port,
            is_host,
            prefix: self.key(name),
            interface: self.interface.clone(),
        }
    }
}

#[cfg(feature = "torch")]
fn available() -> bool {
    plmicd_torch::distributed::AVAILABLE
}

#[cfg(not(feature = "torch"))]
fn available() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Place>, Failure> {
        Place::read(&|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_process_alone_has_no_place() {
        assert_eq!(read(&[]).expect("fine"), None);
        assert_eq!(read(&[("WORLD_SIZE", "1"), ("RANK", "0")]).expect("fine"), None);
        // A batch script of Slurm, not a step of it.
        assert_eq!(read(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")]).expect("fine"), None);
    }

    #[test]
    fn torchrun_and_srun_say_who_is_who() {
        let meeting = [("MASTER_ADDR", "node7"), ("MASTER_PORT", "29500")];
        let mut torchrun =
            vec![("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")];
        torchrun.extend(meeting);
        let place = read(&torchrun).expect("fine").expect("several");
        assert_eq!((place.rank, place.size, place.local_rank, place.local_size), (3, 4, 1, 2));
        assert!(!place.is_first() && !place.ranks("x", false).is_local());
        let mut srun = vec![
            ("SLURM_STEP_ID", "0"),
            ("SLURM_NTASKS", "2"),
            ("SLURM_PROCID", "0"),
            ("SLURM_LOCALID", "0"),
        ];
        srun.extend(meeting);
        let place = read(&srun).expect("fine").expect("several");
        assert!(place.is_first() && place.is_host());
        (srun[2], srun[3]) = (("SLURM_PROCID", "1"), ("SLURM_LOCALID", "1"));
        let gpu = |variables: &[(&str, &str)]| read(variables).expect("fine").expect("several").gpu;
        assert_eq!(gpu(&srun), 1);
        srun.push(("CUDA_VISIBLE_DEVICES", "0"));
        assert_eq!(gpu(&srun), 1, "both may see the same one");
        srun.push(("SLURM_GPUS_PER_TASK", "1"));
        assert_eq!(gpu(&srun), 0, "each task has one of its own");
        srun[6] = ("CUDA_VISIBLE_DEVICES", "0,1");
        assert_eq!(gpu(&srun), 1);
        torchrun.push(("CUDA_VISIBLE_DEVICES", "0"));
        assert_eq!(gpu(&torchrun), 1, "two processes never share one unasked");
        torchrun.push(("TORCHELASTIC_USE_AGENT_STORE", "True"));
        torchrun[1] = ("RANK", "0");
        assert!(!read(&torchrun).expect("fine").expect("several").is_host());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (variables, named) in [
            (vec![("WORLD_SIZE", "two")], "WORLD_SIZE is not a whole number"),
            (vec![("WORLD_SIZE", "2")], "RANK is not set"),
            (vec![("WORLD_SIZE", "2"), ("RANK", "2")], "RANK is 2"),
            (vec![("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "a")], "MASTER_PORT is not set"),
        ] {
            let failure = read(&variables).expect_err("refused");
            let Some(crate::failure::Message::Text(text)) = failure.message else { panic!("no text") };
            assert!(text.contains(named), "{text}");
        }
    }
}
