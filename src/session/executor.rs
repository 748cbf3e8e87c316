//! One face for both kinds of session, so that training and prediction need not know where they run.

use super::{DeviceSession, Session};
use crate::{
    Result,
    cpu::{Threads, memory::available},
    graph::Graph,
    machine::Machine,
    plan::{self, MemoryPlan, Options},
    tensor::Spec,
};

/// A bound program, on the CPU or on a machine.
#[derive(Debug)]
pub enum Executor {
    /// On the CPU.
    Cpu(Session),
    /// On a GPU, real or emulated.
    Machine(DeviceSession),
}

/// Where a program shall run.
#[derive(Debug)]
pub enum RunsOn {
    /// On these threads.
    Cpu(Threads),
    /// On this GPU, real or emulated.
    Machine(Box<dyn Machine>),
}

impl From<Threads> for RunsOn {
    fn from(threads: Threads) -> Self {
        Self::Cpu(threads)
    }
}

impl From<Box<dyn Machine>> for RunsOn {
    fn from(machine: Box<dyn Machine>) -> Self {
        Self::Machine(machine)
    }
}

impl RunsOn {
    /// How programs are laid out here.
    pub fn options(&self) -> Options {
        match self {
            Self::Cpu(threads) => Options::for_threads(threads.count()),
            Self::Machine(_) => Options::for_gpu(),
        }
    }

    /// Bytes that a program may take; none where nobody knows.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn free_memory(&mut self) -> Result<Option<usize>> {
        match self {
            Self::Cpu(_) => Ok(available()),
            Self::Machine(machine) => Ok(Some(usize::try_from(machine.free_memory()?).unwrap_or(usize::MAX))),
        }
    }
}

impl Executor {
    /// Plans a program for where it runs, and binds it. Persistent values start as zero.
    ///
    /// # Errors
    /// If the machine cannot run the program, or has too little memory.
    pub fn bind(graphs: &[Graph], runs_on: RunsOn) -> Result<Self> {
        let plan = plan::plan(graphs, runs_on.options());
        Self::bind_planned(graphs, plan, runs_on)
    }

    /// Binds a program to a plan that was made for it and for where it runs ([`RunsOn::options`]).
    ///
    /// # Errors
    /// As [`Executor::bind`].
    ///
    /// # Panics
    /// If the plan does not pass [`plan::verify`]: that is a bug in the planner, and running would corrupt results.
    pub fn bind_planned(graphs: &[Graph], plan: MemoryPlan, runs_on: RunsOn) -> Result<Self> {
        match runs_on {
            RunsOn::Cpu(threads) => Session::bind_planned(graphs, plan, threads).map(Self::Cpu),
            RunsOn::Machine(machine) => DeviceSession::bind_planned(graphs, plan, machine).map(Self::Machine),
        }
    }

    /// Runs the graph at this position of the program. A machine may still be busy when this returns.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn run(&mut self, entry: usize) -> Result<()> {
        match self {
            Self::Cpu(session) => {
                session.run(entry);
                Ok(())
            }
            Self::Machine(session) => session.run_captured(entry),
        }
    }

    /// Writes a persistent value: elements of any plain type that fill it exactly.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the program has no such value, or it has another size.
    pub fn write<T: bytemuck::NoUninit>(&mut self, name: &str, elements: &[T]) -> Result<()> {
        match self {
            Self::Cpu(session) => {
                session.bytes_mut(name).copy_from_slice(bytemuck::cast_slice(elements));
                Ok(())
            }
            Self::Machine(session) => session.write(name, elements),
        }
    }

    /// Writes the first elements of an input that the next run reads, beside a run that is under way where the machine can.
    /// See [`DeviceSession::write_ahead`].
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the program has no such value, or it is smaller.
    pub fn write_ahead<T: bytemuck::NoUninit>(&mut self, name: &str, elements: &[T]) -> Result<()> {
        match self {
            Self::Cpu(session) => {
                let bytes: &[u8] = bytemuck::cast_slice(elements);
                session.bytes_mut(name)[..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Self::Machine(session) => session.write_ahead(name, elements),
        }
    }

    /// Reads a persistent value, after everything before has finished.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the program has no such value, or its size is no multiple of an element's.
    pub fn read<T: bytemuck::Pod>(&mut self, name: &str) -> Result<Vec<T>> {
        match self {
            Self::Cpu(session) => Ok(bytemuck::pod_collect_to_vec(session.bytes_mut(name))),
            Self::Machine(session) => session.read(name),
        }
    }

    /// Reads a persistent value into a buffer of its size, after everything before has finished.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If the program has no such value, or it has another size.
    pub fn read_into<T: bytemuck::Pod>(&mut self, name: &str, elements: &mut [T]) -> Result<()> {
        match self {
            Self::Cpu(session) => {
                bytemuck::cast_slice_mut(elements).copy_from_slice(session.bytes_mut(name));
                Ok(())
            }
            Self::Machine(session) => session.read_into(name, elements),
        }
    }

    /// Whether the program has a persistent value of this name.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Cpu(session) => session.has(name),
            Self::Machine(session) => session.has(name),
        }
    }

    /// The layout in force.
    pub fn plan(&self) -> &MemoryPlan {
        match self {
            Self::Cpu(session) => session.plan(),
            Self::Machine(session) => session.plan(),
        }
    }

    /// The persistent values by name, with their specs.
    pub fn persistent(&self) -> impl Iterator<Item = (&str, Spec)> {
        self.plan().persistent.iter().map(|value| (value.name.as_str(), value.spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        graph::{Role, Tape},
        machine::{Emulated, Null},
        ops::elementwise::Axpy,
    };

    /// `y = a + 2 b` over seven elements.
    fn program() -> Graph {
        let mut tape = Tape::new();
        let [a, b] = ["a", "b"].map(|name| tape.source(name, Spec::f32_vector(7), Role::Input));
        let y = tape.record1("sum", Axpy { alpha: 2.0 }, &[a, b]).unwrap();
        tape.keep_output(y, "y");
        tape.finish()
    }

    #[test]
    fn the_same_calls_give_the_same_numbers_wherever_a_program_runs() {
        let homes = [RunsOn::Cpu(Threads::new(1)), RunsOn::Machine(Box::new(Emulated::default()))];
        for home in homes {
            let mut executor = Executor::bind(&[program()], home).unwrap();
            executor.write("a", &[1.0f32; 7]).unwrap();
            executor.write("b", &[0.5f32, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]).unwrap();
            for _ in 0..2 {
                executor.run(0).unwrap();
                assert_eq!(executor.read::<f32>("y").unwrap(), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
            }
        }
    }

    #[test]
    fn the_null_machine_accepts_a_program_and_computes_nothing() {
        let mut executor = Executor::bind(&[program()], RunsOn::Machine(Box::new(Null::new()))).unwrap();
        executor.write("a", &[1.0f32; 7]).unwrap();
        executor.run(0).unwrap();
        assert_eq!(executor.read::<f32>("y").unwrap(), [0.0; 7]);
        assert!(executor.has("y") && executor.persistent().count() == 3 && executor.plan().total > 0);
    }
}
