//! The report as JSON.

use serde_json::{Map, Value, json};

use super::{Report, Spread, case_shares};
use crate::data::fingerprint::{CaseFingerprint, Intensity, PERCENTILES};

impl Report {
    /// The report as JSON.
    ///
    /// | key | value |
    /// |---|---|
    /// | `format`, `version` | `"gyrus-exploration"`, 1 |
    /// | `dataset` | the dataset's name |
    /// | `channels`, `labels` | names in order |
    /// | `overall` | `cases` (how many); `height`, `width`, `depth`, `spacing_x_mm`, `spacing_y_mm`, `spacing_z_mm`, each `{minimum, median, maximum, mean}`; `channels`, array of `{name, nonzero, foreground, histogram}`; `labels`, array of `{label, name, voxels, share, cases, share_per_case}` |
    /// | `cases` | array of `{case, height, width, depth, spacing_mm, channels, labels}` with `spacing_mm` as x, y, z, `channels` an array of `{name, nonzero, foreground}` and `labels` an array of `{label, name, voxels, share, ml}` |
    ///
    /// `nonzero` (voxels that are not 0) and `foreground` (voxels whose label is not 0) are `{voxels, minimum, maximum,
    /// mean, deviation, percentiles}`, percentiles by their number (`"0.5"` to `"99.5"`), or `null` without such voxels.
    /// `histogram` is `{low, high, counts}` over the non-zero voxels, bins of equal width; what lies outside is in the
    /// outer bins. Height, width and depth are the file's first, second and third axis.
    pub fn json(&self) -> Value {
        let mut overall = Map::new();
        overall.insert("cases".into(), self.fingerprint.cases.len().into());
        for (quantity, values) in self.quantities() {
            overall.insert(quantity.key().into(), spread(&values));
        }
        let channels = self.channels.iter().zip(&self.fingerprint.channels).map(|(name, channel)| {
            let [low, .., high] = channel.nonzero.percentiles;
            json!({
                "name": name,
                "nonzero": intensity(&channel.nonzero),
                "foreground": intensity(&channel.foreground),
                "histogram": {"low": low, "high": high, "counts": channel.histogram},
            })
        });
        overall.insert("channels".into(), channels.collect());
        let shares = self.label_shares();
        let labels = self.labels.iter().enumerate().map(|(label, name)| {
            json!({
                "label": label,
                "name": name,
                "voxels": self.fingerprint.label_voxels[label],
                "share": shares[label],
                "cases": self.cases_with(label),
                "share_per_case": spread(&Spread::of(&self.shares_of(label))),
            })
        });
        overall.insert("labels".into(), labels.collect());
        json!({
            "format": "gyrus-exploration",
            "version": 1,
            "dataset": self.name,
            "channels": self.channels,
            "labels": self.labels,
            "overall": overall,
            "cases": self.fingerprint.cases.iter().map(|case| self.case(case)).collect::<Vec<_>>(),
        })
    }

    fn case(&self, case: &CaseFingerprint) -> Value {
        let [height, width, depth] = case.extents;
        let channels = self.channels.iter().zip(case.nonzero.iter().zip(&case.foreground));
        let channels = channels.map(|(name, (nonzero, foreground))| {
            json!({"name": name, "nonzero": intensity(nonzero), "foreground": intensity(foreground)})
        });
        let voxel_ml = case.spacing.iter().product::<f64>() / 1000.0;
        let shares = case_shares(case);
        let labels = self.labels.iter().enumerate().map(|(label, name)| {
            let voxels = case.label_voxels.get(label).copied().unwrap_or(0);
            let share = shares.get(label).copied().unwrap_or(0.0);
            json!({"label": label, "name": name, "voxels": voxels, "share": share, "ml": voxels as f64 * voxel_ml})
        });
        json!({
            "case": case.name,
            "height": height,
            "width": width,
            "depth": depth,
            "spacing_mm": case.spacing,
            "channels": channels.collect::<Vec<_>>(),
            "labels": labels.collect::<Vec<_>>(),
        })
    }
}

fn spread(spread: &Spread) -> Value {
    json!({"minimum": spread.minimum, "median": spread.median, "maximum": spread.maximum, "mean": spread.mean})
}

fn intensity(values: &Intensity) -> Value {
    if values.count == 0 {
        return Value::Null;
    }
    let percentiles =
        PERCENTILES.iter().zip(values.percentiles).map(|(percent, value)| (percent.to_string(), value.into()));
    json!({
        "voxels": values.count,
        "minimum": values.minimum,
        "maximum": values.maximum,
        "mean": values.mean,
        "deviation": values.deviation,
        "percentiles": percentiles.collect::<Map<String, Value>>(),
    })
}
