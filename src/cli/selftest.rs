//! `gyrus selftest`: whether this device computes what it should.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use clap::Args;
use serde_json::json;

use super::{
    device::{DeviceOptions, counted},
    given::Given,
    output::SaveOptions,
};
use crate::{
    Error, Result,
    machine::{Machine, TensorCores},
    ops::{case::Case, catalogue},
    selftest::{Cpu, Gpu, Outcome, Runner, Single, judge, steps},
    session::Target,
};

/// Compare this device with the definitions of all operations, in double precision.
///
/// Every operation runs on shapes that are odd, tiny, prime and real, with guard bytes around every buffer. A result may be
/// twice as far from the truth as plain loops in the same precision are. On a GPU, real or emulated, a few training steps of
/// every architecture follow: near enough to the truth, and the same bits when run again, when captured, and when batches
/// are uploaded ahead. Exit status 1 if anything is wrong.
///
/// JSON keys: device, name, cases, failures, seconds, outcomes: a list of {case, passed, share, error, allowed, seconds},
/// where share is error over what is allowed (null if a result is not a number, or has other bits than it should).
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    device: DeviceOptions,

    /// Only cases whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// List every case instead of every kind of operation
    #[arg(long)]
    cases: bool,

    /// Leave the largest cases out: for checkers that slow everything down
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    save: SaveOptions,
}

/// Runs the command.
pub fn run(options: Options, given: &Given) -> Result<()> {
    let opened = options.device.open()?;
    given.remark(&[("precision", true, "all formats are tested")]);
    given.remark(&DeviceOptions::idle(opened.device));
    let (device, name) = (opened.device.to_string(), opened.description);
    note!("{name}");
    let start = Instant::now();
    let is_wanted = |name: &str| options.filter.as_deref().is_none_or(|filter| name.contains(filter));
    let cases: Vec<Case> =
        catalogue().into_iter().filter(|case| is_wanted(&case.name) && !(options.quick && case.large)).collect();
    let outcomes = match opened.target {
        Target::Cpu(threads) => judge_all(&cases, &mut Cpu(threads.count()))?,
        Target::Machine(machine) => on_machine(&cases, machine, is_wanted("steps"))?,
    };
    if outcomes.is_empty() {
        return Err(Error::usage("--filter", "no case has such a name", "leave it out to run all"));
    }
    let seconds = start.elapsed().as_secs_f64();
    let failures = outcomes.iter().filter(|outcome| !outcome.is_good()).count();
    let line = |outcome: &Outcome| {
        json!({
            "case": outcome.case,
            "passed": outcome.is_good(),
            "share": outcome.share,
            "error": outcome.error,
            "allowed": outcome.allowed,
            "seconds": outcome.seconds,
        })
    };
    let report = json!({
        "device": device,
        "name": name,
        "cases": outcomes.len(),
        "failures": failures,
        "seconds": seconds,
        "outcomes": outcomes.iter().map(line).collect::<Vec<_>>(),
    });
    options.save.report(&report, || {
        print_table(&outcomes, options.cases)?;
        say!("{} passed, {failures} failed, {seconds:.1} s", counted(outcomes.len() - failures, "case"));
        Ok(())
    })?;
    if failures > 0 {
        return Err(Error::Device {
            device,
            cause: format!("{failures} of {} cases are wrong", outcomes.len()),
            advice: "do not train here; please report it, with this output".to_owned(),
        });
    }
    Ok(())
}

/// Cases, then whole steps.
fn on_machine(cases: &[Case], machine: Box<dyn Machine>, with_steps: bool) -> Result<Vec<Outcome>> {
    let mut gpu = Gpu::new(machine);
    let mut outcomes = judge_all(cases, &mut gpu)?;
    if with_steps {
        steps::run(gpu.into_machine(), &mut |outcome| outcomes.push(outcome.clone()))?;
    }
    Ok(outcomes)
}

/// Judges all cases, in their order. The definitions are slow plain loops, so that all cores of the host compute them,
/// while the device runs one case at a time.
fn judge_all(cases: &[Case], device: &mut (dyn Runner + Send)) -> Result<Vec<Outcome>> {
    let (cases, without_kernel): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| device.can_run(case));
    if !without_kernel.is_empty() {
        let kinds: BTreeSet<String> =
            without_kernel.iter().map(|case| format!("{} {}", case.op.kind(), case.dtype())).collect();
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
        note!("skipped for want of a kernel: {} ({kinds})", counted(without_kernel.len(), "case"));
    }
    let device = Mutex::new(device);
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    let work = |send: mpsc::Sender<(usize, Result<Outcome>)>| {
        while let Some((index, case)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, cases.get(i)?)))
        {
            let mut turn = Turn { device: &device, seconds: 0.0 };
            let outcome = match judge(case, &mut turn) {
                Ok(outcome) => Ok(Outcome { seconds: turn.seconds, ..outcome }),
                // The device can go on.
                Err(Error::Shape { cause, .. }) => {
                    let (case, seconds) = (format!("{}: {cause}", case.name), turn.seconds);
                    Ok(Outcome { case, share: f64::INFINITY, error: f64::INFINITY, allowed: 0.0, seconds })
                }
                Err(error) => Err(error),
            };
            let is_over = outcome.is_err();
            // The receiver lives longer than the workers.
            let _ = send.send((index, outcome));
            if is_over {
                break;
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            let send = send.clone();
            scope.spawn(|| work(send));
        }
    });
    drop(send);
    let mut outcomes: Vec<(usize, Result<Outcome>)> = receive.iter().collect();
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// One worker's way to the device that all share.
struct Turn<'a, 'd> {
    device: &'a Mutex<&'d mut (dyn Runner + Send)>,
    /// That the device took.
    seconds: f64,
}

impl Runner for Turn<'_, '_> {
    fn tensor_cores(&self) -> TensorCores {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).tensor_cores()
    }

    fn run(&mut self, single: &Single) -> Result<Vec<Vec<f64>>> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let results = device.run(single);
        self.seconds += start.elapsed().as_secs_f64();
        results
    }
}

fn print_table(outcomes: &[Outcome], every_case: bool) -> Result<()> {
    if every_case {
        say!("{:<64} {:>10} {:>10} {:>8} {:>9}", "case", "error", "allowed", "share", "ms");
        for outcome in outcomes.iter() {
            print_case(outcome)?;
        }
        return Ok(());
    }
    let kind = |outcome: &Outcome| {
        let first = outcome.case.split(' ').next().unwrap_or_default();
        let precision = [" bf16", " fp16"].into_iter().find(|name| outcome.case.ends_with(name));
        format!("{first}{}", precision.unwrap_or_default())
    };
    let mut kinds: BTreeMap<String, (usize, usize, f64, f64)> = BTreeMap::new();
    for outcome in outcomes.iter() {
        let (cases, failures, worst, seconds) = kinds.entry(kind(outcome)).or_default();
        *cases += 1;
        *failures += usize::from(!outcome.is_good());
        *worst = worst.max(outcome.share);
        *seconds += outcome.seconds;
    }
    say!("{:<34} {:>6} {:>9} {:>22} {:>10}", "operation", "cases", "failures", "worst share of allowed", "ms");
    for (kind, (cases, failures, worst, seconds)) in kinds {
        say!("{kind:<34} {cases:>6} {failures:>9} {worst:>22.3} {:>10.1}", 1e3 * seconds);
    }
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_good()).collect();
    if !failed.is_empty() {
        say!("");
        say!("{:<64} {:>10} {:>10} {:>8} {:>9}", "failed", "error", "allowed", "share", "ms");
    }
    failed.into_iter().try_for_each(print_case)
}

fn print_case(outcome: &Outcome) -> Result<()> {
    let Outcome { case, share, error, allowed, seconds } = outcome;
    say!("{case:<64} {error:>10.2e} {allowed:>10.2e} {share:>8.3} {:>9.2}", 1e3 * seconds);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CPU, but every second case is off, and every third writes outside its operands.
    struct Faulty(usize);

    impl Runner for Faulty {
        fn run(&mut self, single: &Single) -> Result<Vec<Vec<f64>>> {
            self.0 += 1;
            let mut results = Cpu(1).run(single)?;
            match self.0 % 3 {
                0 => return Err(Error::shape("relu", "wrote outside its operands")),
                1 => {}
                _ => results[0][0] += 1.0,
            }
            Ok(results)
        }
    }

    #[test]
    fn wrong_cases_are_counted_and_the_others_still_run() {
        // Large enough for a single draw each, so that a case is one run.
        let cases: Vec<Case> = catalogue().into_iter().filter(|case| case.large).take(6).collect();
        let outcomes = judge_all(&cases, &mut Faulty(0)).unwrap();
        assert_eq!(outcomes.len(), 6);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_good()).count(), 2);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.case.ends_with("wrote outside its operands")).count(), 2);
    }
}
