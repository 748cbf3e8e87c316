//! Which cases train and which validate: seeded folds, or a file of folds in nnU-Net's `splits_final.json` format.

use std::{collections::HashSet, fs, path::Path};

use serde::Deserialize;

use super::{Case, Dataset, case_name};
use crate::{Error, Result, random::Stream};

/// Two disjoint sets of cases, each sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Cases to learn from.
    pub train: Vec<Case>,
    /// Cases to judge by.
    pub validation: Vec<Case>,
}

/// One fold as files name it.
#[derive(Deserialize)]
struct Fold {
    train: Vec<String>,
    val: Vec<String>,
}

impl Dataset {
    /// Fold `fold` of `folds`: the cases are dealt in an order drawn from the seed and depending on their names alone,
    /// and the fold's share validates. Over all folds each case validates once.
    ///
    /// # Errors
    /// Fewer than two folds, more folds than cases, a fold that is not one of them.
    pub fn fold(&self, fold: usize, folds: usize, seed: u64) -> Result<Split> {
        if folds < 2 || folds > self.cases.len() {
            let cause = format!("{folds} folds of {} cases", self.cases.len());
            return Err(Error::usage("folds", cause, "give at least 2 and at most the number of cases"));
        }
        if fold >= folds {
            let advice = format!("folds count from 0 to {}", folds - 1);
            return Err(Error::usage("fold", format!("no fold {fold} of {folds}"), advice));
        }
        let mut share = vec![0; self.cases.len()];
        for (place, case) in Stream::new(seed, "folds").permutation(self.cases.len()).into_iter().enumerate() {
            share[case] = place % folds;
        }
        let (validation, train): (Vec<_>, Vec<_>) = self.cases.iter().zip(share).partition(|(_, share)| *share == fold);
        let cases = |dealt: Vec<(&Case, usize)>| dealt.into_iter().map(|(case, _)| case.clone()).collect();
        Ok(Split { train: cases(train), validation: cases(validation) })
    }

    /// Fold `fold` of a file `[{"train": [names], "val": [names]}, ...]`; names with or without `.nii.gz`. Cases that
    /// the fold does not name stay out.
    ///
    /// # Errors
    /// A file that is missing, malformed or has no such fold; a name that is unknown, repeated, or on both sides; an
    /// empty side.
    pub fn split_by_file(&self, path: &Path, fold: usize) -> Result<Split> {
        let text = fs::read(path).map_err(|source| Error::io(path, source))?;
        let folds: Vec<Fold> = serde_json::from_slice(&text).map_err(|error| {
            Error::input(path, error, "give a list of folds: [{\"train\": [names], \"val\": [names]}, ...]")
        })?;
        let count = folds.len();
        let Some(Fold { train, val }) = folds.into_iter().nth(fold) else {
            let advice = "give `fold` a number below that, or another file";
            return Err(Error::input(path, format!("no fold {fold}: it holds {count}"), advice));
        };
        let mut seen = HashSet::new();
        let train = self.named(path, "train", train, &mut seen)?;
        let validation = self.named(path, "val", val, &mut seen)?;
        Ok(Split { train, validation })
    }

    fn named(&self, path: &Path, side: &str, names: Vec<String>, seen: &mut HashSet<String>) -> Result<Vec<Case>> {
        if names.is_empty() {
            return Err(Error::input(path, format!("{side:?} is empty"), "name at least one case on each side"));
        }
        let mut cases = Vec::with_capacity(names.len());
        for name in names {
            let name = case_name(&name).unwrap_or(&name);
            let Ok(index) = self.cases.binary_search_by(|case| case.name.as_str().cmp(name)) else {
                let advice = format!("the cases are those of {}", self.root.display());
                return Err(Error::input(path, format!("{name:?} in {side:?} is not a labelled case"), advice));
            };
            if !seen.insert(name.to_owned()) {
                let advice = "a case may train or validate, not both, and only once";
                return Err(Error::input(path, format!("{name:?} in {side:?} was named before"), advice));
            }
            cases.push(self.cases[index].clone());
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(count: usize) -> Dataset {
        let case = |i| Case { name: format!("case_{i:03}"), image: format!("{i}.nii").into(), label: None };
        Dataset {
            root: "task".into(),
            name: "task".into(),
            channels: vec![],
            labels: vec![],
            cases: (0..count).map(case).collect(),
            test: vec![],
        }
    }

    #[test]
    fn every_case_validates_in_exactly_one_fold() {
        let dataset = dataset(23);
        let mut validated: Vec<String> = Vec::new();
        for fold in 0..5 {
            let split = dataset.fold(fold, 5, 7).unwrap();
            assert_eq!(split.train.len() + split.validation.len(), 23);
            assert!(split.validation.len() == 4 || split.validation.len() == 5);
            assert!(split.validation.iter().all(|case| !split.train.contains(case)));
            validated.extend(split.validation.into_iter().map(|case| case.name));
        }
        validated.sort();
        validated.dedup();
        assert_eq!(validated.len(), 23);
        assert_eq!(dataset.fold(2, 5, 7).unwrap(), dataset.fold(2, 5, 7).unwrap());
        assert_ne!(dataset.fold(2, 5, 7).unwrap(), dataset.fold(2, 5, 8).unwrap());
        for (fold, folds) in [(0, 1), (0, 24), (5, 5)] {
            assert!(dataset.fold(fold, folds, 7).is_err());
        }
    }

    #[test]
    fn a_file_of_folds_is_followed_or_its_mistake_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("splits.json");
        let split = |text: &str, fold| {
            fs::write(&path, text).unwrap();
            dataset(4).split_by_file(&path, fold)
        };
        let good = r#"[{"train": [], "val": []}, {"train": ["case_002.nii.gz", "case_000"], "val": ["case_003"]}]"#;
        let names = |cases: &[Case]| cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>();
        let made = split(good, 1).unwrap();
        assert_eq!(
            (names(&made.train), names(&made.validation)),
            (vec!["case_000".into(), "case_002".into()], vec!["case_003".into()])
        );
        for (text, fold, cause) in [
            (good, 0, "\"train\" is empty"),
            (good, 2, "no fold 2: it holds 2"),
            (r#"[{"train": ["case_000"], "val": ["case_9"]}]"#, 0, "\"case_9\" in \"val\" is not a labelled case"),
            (r#"[{"train": ["case_000"], "val": ["case_000.nii.gz"]}]"#, 0, "\"case_000\" in \"val\" was named before"),
            (r#"{"train": []}"#, 0, "splits.json: "),
        ] {
            let message = split(text, fold).unwrap_err().to_string();
            assert!(message.contains(cause) && message.lines().count() == 1, "{message}");
        }
    }
}
