//! Options for what a run may use: `--memory-budget`, `--rematerialise`.

use clap::Args;

use crate::{
    cpu::memory::available,
    plan::budget::{Budget, Rematerialise},
    train::budget::Limit,
};

/// What a run may use.
#[derive(Debug, Args)]
pub struct MemoryOptions {
    /// Memory for all values of a step, such as 6GiB, 800MiB or 1.5GB
    /// [default: train: what the machine has left; plan: 24GiB]
    #[arg(long, value_parser = size, value_name = "SIZE", help_heading = "Memory", verbatim_doc_comment)]
    memory_budget: Option<usize>,

    /// Which activations are forgotten and computed again: auto (as few as the budget allows), none, full, or the share
    /// (0 to 1) of what full saves. Results do not depend on it
    #[arg(long, default_value_t = Rematerialise::Auto, value_name = "HOW_MUCH", help_heading = "Memory")]
    rematerialise: Rematerialise,
}

impl MemoryOptions {
    /// The limit of a run on this machine. A sixteenth of what is left stays free for loading.
    pub fn of_machine(&self) -> Limit {
        match self.memory_budget {
            Some(_) => self.chosen(0),
            None => Limit {
                budget: Budget { bytes: available().map(|free| free - free / 16), rematerialise: self.rematerialise },
                name: "the machine has left",
            },
        }
    }

    /// The limit of a run on no particular machine.
    pub fn chosen(&self, default: usize) -> Limit {
        self.named(default, "the budget is")
    }

    /// The limit of a run on a card with this much memory, unless the user sets another.
    pub fn of_card(&self, free: usize) -> Limit {
        self.named(free, if self.memory_budget.is_some() { "the budget is" } else { "the card has" })
    }

    fn named(&self, default: usize, name: &'static str) -> Limit {
        let bytes = Some(self.memory_budget.unwrap_or(default));
        Limit { budget: Budget { bytes, rematerialise: self.rematerialise }, name }
    }
}

/// A number of bytes such as `16GiB`, `800 MiB`, `1.5GB` or `1000000`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let refuse = || "give a number with KiB, MiB, GiB, TiB, KB, MB, GB, TB or no unit for bytes".to_owned();
    let split = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(refuse()),
    };
    let bytes = number.parse::<f64>().map_err(|_| refuse())? * factor as f64;
    // Beyond 2^53 a double no longer counts bytes; nobody has so many.
    if bytes >= 1.0 && bytes < 2f64.powi(53) { Ok(bytes as usize) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units_and_nonsense_is_refused() {
        assert_eq!(size("24GiB"), Ok(24 << 30));
        assert_eq!(size("1.5 gib"), Ok(3 << 29));
        assert_eq!(size("800MiB"), Ok(800 << 20));
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        assert_eq!(size("4096"), Ok(4096));
        for nonsense in ["", "GiB", "-1GiB", "1e9", "5 apples", "0", "1.2.3MB", "99999999999TiB", "NaN", "inf"] {
            assert!(size(nonsense).is_err(), "{nonsense}");
        }
    }
}
