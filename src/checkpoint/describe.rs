//! What a checkpoint holds, for `gyrus inspect`.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::{Checkpoint, Meta, OPTIMIZER_PREFIX};

/// A summary: `Display` is the table for people, the serialisation the JSON for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Weights and running statistics.
    pub network: Group,
    /// Optimizer state.
    pub optimizer: Group,
    /// All the rest.
    pub meta: Meta,
}

/// Arrays that belong together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Group {
    /// Elements of all arrays.
    pub elements: u64,
    /// Bytes of all arrays.
    pub bytes: u64,
    /// Elements that are NaN or infinite: a run that diverged shows here.
    pub non_finite: u64,
    /// The arrays, by name.
    pub tensors: Vec<Array>,
}

/// One array.
#[derive(Clone, Debug, Serialize)]
pub struct Array {
    /// Its name.
    pub name: String,
    /// Its extents in the file.
    pub shape: Vec<usize>,
    /// Root mean square of the elements; null when it is not finite or there are none.
    pub rms: Option<f64>,
}

impl Description {
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        let mut description =
            Self { network: Group::default(), optimizer: Group::default(), meta: checkpoint.meta.clone() };
        for (name, tensor) in &checkpoint.tensors {
            let is_optimizer = name.starts_with(OPTIMIZER_PREFIX);
            let group = if is_optimizer { &mut description.optimizer } else { &mut description.network };
            let elements = tensor.data.len() as u64;
            group.elements += elements;
            group.bytes += elements * size_of::<f32>() as u64;
            group.non_finite += tensor.data.iter().filter(|x| !x.is_finite()).count() as u64;
            let squares: f64 = tensor.data.iter().map(|&x| f64::from(x).powi(2)).sum();
            let rms = Some((squares / elements as f64).sqrt()).filter(|rms| rms.is_finite());
            group.tensors.push(Array { name: name.clone(), shape: tensor.shape.clone(), rms });
        }
        description
    }
}

impl Display for Description {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Meta { position, schedule, labels, .. } = &self.meta;
        writeln!(f, "checkpoint   read as format {}, written by {}", self.meta.format_version, self.meta.written_by)?;
        write!(f, "position     {} epochs", position.epoch)?;
        writeln!(f, " and {} steps ({} steps in all)", position.step_in_epoch, position.global_step)?;
        match (self.meta.best_metric, self.meta.best_epoch) {
            (Some(metric), Some(epoch)) => writeln!(f, "best         {metric:.4} in epoch {epoch}")?,
            _ => writeln!(f, "best         none yet")?,
        }
        if let Some(schedule) = schedule {
            writeln!(f, "rate         {:e}", schedule.lr)?;
        }
        writeln!(f, "seeds        {} (run), {} (order of cases)", self.meta.seed, self.meta.order_seed)?;
        let labels: Vec<String> = labels.iter().map(|label| format!("{} {}", label.value, label.name)).collect();
        writeln!(f, "labels       {}", if labels.is_empty() { "none".into() } else { labels.join(", ") })?;
        for (title, group) in [("network", &self.network), ("optimizer", &self.optimizer)] {
            let arrays = group.tensors.len();
            writeln!(f, "{title:<12} {arrays} arrays, {} elements, {} bytes", group.elements, group.bytes)?;
            if group.non_finite > 0 {
                writeln!(f, "             {} elements are NaN or infinite", group.non_finite)?;
            }
        }
        let rows = || self.network.tensors.iter().chain(&self.optimizer.tensors);
        let width = rows().map(|row| row.name.chars().count()).max().unwrap_or(0);
        for Array { name, shape, rms } in rows() {
            let rms = rms.map_or("n/a".into(), |rms| format!("{rms:.4e}"));
            writeln!(f, "  {name:<width$}  {:<22} rms {rms}", format!("{shape:?}"))?;
        }
        Ok(())
    }
}
