//! Several errors as one.

use crate::Error;

/// Everything that was found wrong; at least one error.
#[derive(Debug)]
pub struct Problems {
    all: Vec<Error>,
}

/// How many are shown; a wrong option makes every case a problem.
const SHOWN: usize = 20;

impl Problems {
    pub(super) fn new(all: Vec<Error>) -> Self {
        debug_assert!(!all.is_empty());
        Self { all }
    }

    /// The errors, in the order of the cases.
    pub fn all(&self) -> &[Error] {
        &self.all
    }
}

impl std::fmt::Display for Problems {
    /// One line: each problem with its file, the first twenty of them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<String> = self.all.iter().take(SHOWN).map(Error::to_string).collect();
        f.write_str(&shown.join("; "))?;
        match self.all.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Error {
    /// The only problem as it is; several as one line that starts with the first one's file. When the machine failed,
    /// that alone: it comes before what the user can mend.
    fn from(mut problems: Problems) -> Self {
        let count = problems.all.len();
        let of_machine = problems.all.iter().position(|error| !matches!(error, Self::Input { .. }));
        let first = problems.all.remove(of_machine.unwrap_or(0));
        if count == 1 {
            return first;
        }
        let Self::Input { path, cause, advice } = first else {
            return first;
        };
        Self::Input {
            path,
            cause: format!("{cause} ({advice}); {problems}"),
            advice: format!("{count} problems in all"),
        }
    }
}
