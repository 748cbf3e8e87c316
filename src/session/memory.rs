//! Whether the machine has the memory that a plan asks for.

use crate::{Error, Result};

/// Refuses more bytes than there are.
///
/// # Errors
/// [`Error::Memory`] with both numbers.
pub(super) fn require(bytes: usize, available: Option<usize>) -> Result<()> {
    if available.is_some_and(|available| bytes > available) {
        return Err(refused(bytes, available));
    }
    Ok(())
}

/// The error for bytes that cannot be had.
pub(super) fn refused(bytes: usize, available: Option<usize>) -> Error {
    let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
    let available =
        available.map_or("the system refuses them".into(), |available| format!("{:.2} GiB are free", gib(available)));
    Error::Memory {
        cause: format!("memory: {:.2} GiB are planned, {available}", gib(bytes)),
        advice: "choose smaller extents or batches, or a larger resize factor; `gyrus plan` shows what each needs"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused_with_both_numbers() {
        let message = require(3 << 30, Some(1 << 30)).unwrap_err().to_string();
        assert!(message.starts_with("memory: 3.00 GiB are planned, 1.00 GiB are free ("), "{message}");
        require(1 << 30, Some(1 << 30)).unwrap();
        require(usize::MAX, None).unwrap();
    }
}
