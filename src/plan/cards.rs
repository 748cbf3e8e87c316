//! Cards by name, so that a run can be planned for one that nobody here owns.
//!
//! Memory is what the driver reports, in MiB; rates are the vendors' dense peaks. Tensor rates are those of 16-bit operands
//! with fp32 sums, which GeForce cards run at half the rate that their boxes advertise. The TITAN RTX is no GeForce: it runs
//! them at the full one.

use super::roofline::Rates;

/// What context, code and the driver's own tables take of a card's memory. Measured contexts are 300 to 500 MiB.
const RESERVE: usize = 512 << 20;

/// A GPU as a plan needs to know it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// The name that users give.
    pub name: &'static str,
    /// Compute capability times ten.
    pub compute: u32,
    /// Memory as the driver reports it, in MiB.
    memory_mib: usize,
    /// Peak rates.
    pub rates: Rates,
}

impl Card {
    /// Bytes that a run can have: all but what the driver takes.
    pub fn free_bytes(&self) -> usize {
        (self.memory_mib << 20) - RESERVE
    }
}

/// TFLOP/s in fp32 and of 16-bit matrix products, GB/s.
const fn card(name: &'static str, compute: u32, memory_mib: usize, rates: [f64; 3]) -> Card {
    let [fp32, tensor, bandwidth] = rates;
    Card {
        name,
        compute,
        memory_mib,
        rates: Rates { fp32: fp32 * 1e12, tensor: tensor * 1e12, bandwidth: bandwidth * 1e9 },
    }
}

/// All cards, by name.
pub const CARDS: &[Card] = &[
    card("a10", 86, 23_028, [31.2, 125.0, 600.0]),
    card("a100-40", 80, 40_960, [19.5, 312.0, 1555.0]),
    card("a100-80", 80, 81_920, [19.5, 312.0, 2039.0]),
    card("a40", 86, 46_068, [37.4, 149.7, 696.0]),
    card("b200", 100, 183_359, [75.0, 2250.0, 8000.0]),
    card("h100", 90, 81_559, [67.0, 989.0, 3350.0]),
    card("h200", 90, 143_771, [67.0, 989.0, 4800.0]),
    card("l4", 89, 23_034, [30.3, 121.0, 300.0]),
    card("l40s", 89, 46_068, [91.6, 362.0, 864.0]),
    card("rtx2080ti", 75, 11_264, [13.4, 53.8, 616.0]),
    card("rtx3060", 86, 12_288, [12.7, 25.5, 360.0]),
    card("rtx3070", 86, 8_192, [20.3, 40.6, 448.0]),
    card("rtx3080", 86, 10_240, [29.8, 59.5, 760.0]),
    card("rtx3090", 86, 24_576, [35.6, 71.0, 936.0]),
    card("rtx4060", 89, 8_188, [15.1, 30.2, 272.0]),
    card("rtx4070", 89, 12_282, [29.1, 58.3, 504.0]),
    card("rtx4080", 89, 16_376, [48.7, 97.5, 717.0]),
    card("rtx4090", 89, 24_564, [82.6, 165.2, 1008.0]),
    card("rtx5080", 120, 16_303, [56.3, 112.6, 960.0]),
    card("rtx5090", 120, 32_607, [104.8, 209.5, 1792.0]),
    card("rtxa6000", 86, 49_140, [38.7, 154.8, 768.0]),
    card("t4", 75, 15_360, [8.1, 65.0, 320.0]),
    card("titan-rtx", 75, 24_220, [16.3, 130.5, 672.0]),
    card("v100", 70, 32_510, [15.7, 125.0, 900.0]),
];

/// The least compute capability, times ten, that kernels are compiled for.
pub const LEAST_COMPUTE: u32 = 75;

/// The card of this name, in any case and with or without hyphens and spaces (`RTX 3090`, `titanrtx`).
///
/// # Errors
/// A sentence that lists the names, or says why the card cannot be used.
pub fn find(name: &str) -> Result<Card, String> {
    let plain = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let Some(card) = CARDS.iter().find(|card| plain(card.name) == plain(name)) else {
        let names: Vec<&str> = CARDS.iter().map(|card| card.name).collect();
        return Err(format!("give a number of bytes such as 11GiB, or one of {}", names.join(", ")));
    };
    if card.compute < LEAST_COMPUTE {
        let (major, minor) = (card.compute / 10, card.compute % 10);
        return Err(format!("{} has compute capability {major}.{minor}; the kernels need 7.5 or more", card.name));
    }
    Ok(*card)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_they_are_written_and_are_in_order() {
        for name in ["rtx3090", "RTX 3090", "rtx-3090", "Titan RTX"] {
            assert!(find(name).is_ok(), "{name}");
        }
        assert!(find("").unwrap_err().contains("rtx3090"));
        assert!(CARDS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn a_card_without_kernels_is_refused_with_the_reason() {
        assert!(find("v100").unwrap_err().contains("7.0"));
    }

    #[test]
    fn rates_are_in_the_range_of_real_cards() {
        for card in CARDS {
            // FLOP per byte: below 15 or above 400 a digit would have slipped.
            let balance = card.rates.tensor / card.rates.bandwidth;
            assert!((15.0..420.0).contains(&balance), "{}: {balance}", card.name);
            assert!(card.rates.fp32 <= card.rates.tensor && card.free_bytes() > 7 << 30, "{}", card.name);
        }
    }

    #[test]
    fn the_least_time_of_a_titan_rtx_is_not_that_of_a_card_with_half_its_rate() {
        // A multiprocessor of 7.5 does 64 multiply-adds in fp32 and 512 of 16-bit products per cycle.
        let full = |card: &Card| (card.rates.tensor / card.rates.fp32 / 8.0).mul_add(10.0, 0.5) as u32;
        for (name, tenths) in [("titan-rtx", 10), ("t4", 10), ("rtx2080ti", 5)] {
            assert_eq!(full(&find(name).unwrap()), tenths, "{name}");
        }
    }
}
