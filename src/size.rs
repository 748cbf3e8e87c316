//! Numbers of bytes, and durations, as people write and read them.

use std::time::Duration;

/// Bytes for people, in the largest binary unit that keeps a digit before the point.
pub fn bytes(bytes: usize) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (power, unit) in units {
        if bytes >= 1 << power {
            let number = bytes as f64 / f64::from(1 << power);
            return if number.fract() == 0.0 { format!("{number} {unit}") } else { format!("{number:.2} {unit}") };
        }
    }
    format!("{bytes} B")
}

/// A number of bytes such as `16GiB`, `800 MiB`, `1.5GB` or `1000000`.
///
/// # Errors
/// A sentence that says what is understood.
pub fn parse(text: &str) -> Result<usize, String> {
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

/// A duration such as `90`, `90s`, `15m` or `2h`.
///
/// # Errors
/// A sentence that says what is understood.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || "give seconds, or a number with s, m or h".to_owned();
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| refuse())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units_and_nonsense_is_refused() {
        assert_eq!(parse("24GiB"), Ok(24 << 30));
        assert_eq!(parse("1.5 gib"), Ok(3 << 29));
        assert_eq!(parse("800MiB"), Ok(800 << 20));
        assert_eq!(parse("2GB"), Ok(2_000_000_000));
        assert_eq!(parse("4096"), Ok(4096));
        for nonsense in ["", "GiB", "-1GiB", "1e9", "5 apples", "0", "1.2.3MB", "99999999999TiB", "NaN", "inf"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn durations_have_units_and_nonsense_is_refused() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for nonsense in ["", "m", "-1s", "1d", "1e30h", "NaN"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }
}
