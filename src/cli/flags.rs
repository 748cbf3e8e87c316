//! Settings in the command line's words: the library says "`train_batch_size`: ..., use `device = cpu`", which nobody can
//! type; here it becomes "--train-batch-size: ..., use --device cpu".

use clap::CommandFactory;

use crate::Error;

/// An error as a user of the command line reads it.
pub fn sentence(error: &Error) -> String {
    let text = match error {
        Error::Usage { setting, cause, advice } => {
            let settings: Vec<String> =
                setting.split(", ").map(|one| flag(one).unwrap_or_else(|| one.to_owned())).collect();
            format!("{}: {cause} ({advice})", settings.join(", "))
        }
        other => other.to_string(),
    };
    in_flags(&text)
}

/// A text with the settings that it names between backticks as options. Other words between backticks stay.
pub fn in_flags(text: &str) -> String {
    let mut pieces = text.split('`');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    while let Some(quoted) = pieces.next() {
        let closed = pieces.next();
        match (flag(quoted), closed) {
            (Some(flag), Some(after)) => out += &(flag + after),
            (None, Some(after)) => out += &format!("`{quoted}`{after}"),
            (_, None) => out += &format!("`{quoted}"),
        }
    }
    out
}

/// `name` or `name = value` as it is typed, if there is such an option.
fn flag(setting: &str) -> Option<String> {
    let (name, value) = setting.split_once(" = ").map_or((setting, None), |(name, value)| (name, Some(value)));
    let name = name.replace('_', "-");
    let is_known = super::Gyrus::command()
        .get_subcommands()
        .any(|command| command.get_arguments().any(|argument| argument.get_long() == Some(&name)));
    is_known.then(|| value.map_or_else(|| format!("--{name}"), |value| format!("--{name} {value}")))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        run::{LearningRate, OptimizerName, TrainRecipe},
        train::config::settings_that_must_agree,
    };

    #[test]
    fn settings_become_options_and_other_words_stay() {
        let error =
            Error::usage("mri_depth, mri_width", "too much", "use `device = cpu`, or a `lr` that `gyrus train` takes");
        assert_eq!(
            sentence(&error),
            "--mri-depth, --mri-width: too much (use --device cpu, or a --lr that `gyrus train` takes)"
        );
        assert_eq!(in_flags("an odd ` and `images`"), "an odd ` and `images`");
        assert_eq!(sentence(&Error::usage("device = cuda", "none", "see to it")), "--device cuda: none (see to it)");
    }

    /// What only callers of the library choose: the command line takes it from the dataset or the checkpoint.
    const OF_CALLERS: [&str; 6] = ["labels", "evaluate", "batch", "padding value", "preprocessing", "foreground_share"];

    /// Every setting that the library can complain of is one that the command line offers; and the library never speaks of
    /// options, which who calls it as a library does not have.
    #[test]
    fn the_library_names_settings_that_are_options_here() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut named = 0;
        for path in sources(&root) {
            if path.starts_with(root.join("cli")) || path.ends_with("picture.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                let place = format!("{}:{}: {line}", path.display(), number + 1);
                let speaks_of_options = line.match_indices("--").any(|(at, _)| {
                    line[at + 2..].starts_with(|next: char| next.is_ascii_lowercase())
                        && line[..at].ends_with(['"', ' ', '(', '`'])
                });
                assert!(!speaks_of_options, "{place}");
                let Some((_, rest)) = line.split_once("Error::usage(\"") else { continue };
                let settings = rest.split('"').next().unwrap();
                for setting in settings.split(", ").filter(|setting| !OF_CALLERS.contains(setting)) {
                    assert!(flag(setting).is_some(), "{setting} is no option: {place}");
                }
                named += 1;
            }
        }
        assert!(named > 10, "only {named} places found: the test no longer sees them");
    }

    #[test]
    fn a_resumed_run_is_refused_for_a_setting_that_is_an_option() {
        let mut recipe = TrainRecipe::default();
        recipe.training.early_stop = Some(3);
        for (optimizer, decay) in [
            (OptimizerName::Sgd, LearningRate::Plateau),
            (OptimizerName::Adam, LearningRate::Cosine),
            (OptimizerName::Nadam, LearningRate::Polynomial),
        ] {
            (recipe.optimizer.optimizer, recipe.training.lr_schedule) = (optimizer, decay);
            let config = recipe.config(recipe.network.config(None, None, None), 100);
            for setting in settings_that_must_agree(&config) {
                assert!(flag(&setting).is_some(), "{setting} is no option");
            }
        }
    }

    fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(sources(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
        found
    }
}
