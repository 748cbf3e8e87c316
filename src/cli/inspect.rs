//! `gyrus inspect`: what an image or a checkpoint holds.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::{Error, Result, checkpoint::Checkpoint, formats};

/// Show what an image or a checkpoint holds.
///
/// JSON keys of an image: kind, version, extents, channels, voxel_type, spacing_mm, affine, orientation, minimum,
/// maximum, mean, non_finite. Of a checkpoint: kind, network, optimizer, meta.
#[derive(Debug, Args)]
pub struct Options {
    /// A .nii, .nii.gz or .safetensors file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    let name = options.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.ends_with(".safetensors") {
        return checkpoint(&options);
    }
    if formats::stem(&name).is_some() {
        return image(&options);
    }
    let advice = format!("give a {} file, or a .safetensors file", formats::endings());
    Err(Error::input(&options.file, "neither an image nor a checkpoint by its name", advice))
}

fn checkpoint(options: &Options) -> Result<()> {
    let description = Checkpoint::load(&options.file)?.describe();
    if options.json {
        let mut value = serde_json::to_value(&description).expect("plain data");
        value["kind"] = "checkpoint".into();
        super::output::print_json(&value)?;
    } else {
        say!("{description}");
    }
    Ok(())
}

fn image(options: &Options) -> Result<()> {
    let image = formats::read_image(&options.file)?;
    let header = &image.header;
    let finite = || image.voxels.iter().copied().filter(|voxel| voxel.is_finite()).map(f64::from);
    let count = finite().count();
    let some = |value: f64| (count > 0).then_some(value);
    let minimum = some(finite().fold(f64::INFINITY, f64::min));
    let maximum = some(finite().fold(f64::NEG_INFINITY, f64::max));
    let mean = some(finite().sum::<f64>() / count as f64);
    let affine = header.grid.affine;
    let non_finite = image.voxels.len() - count;
    let voxel_type = header.encoding.voxel_type;
    let native = header.native.as_ref();
    if options.json {
        let value: Value = json!({
            "kind": native.map_or_else(|| "image".to_owned(), |native| native.format.to_lowercase()),
            "version": native.map(|native| native.version),
            "extents": header.grid.extents,
            "channels": header.channels,
            "voxel_type": voxel_type,
            "spacing_mm": header.grid.spacing,
            "affine": affine,
            "orientation": header.grid.orientation(),
            "minimum": minimum,
            "maximum": maximum,
            "mean": mean,
            "non_finite": non_finite,
        });
        super::output::print_json(&value)?;
        return Ok(());
    }
    let number = |value: Option<f64>| value.map_or("n/a".to_owned(), |value| format!("{value:.6}"));
    let [x, y, z] = header.grid.extents;
    let [sx, sy, sz] = header.grid.spacing;
    say!("extents      {x} x {y} x {z}, {} channels", header.channels);
    say!("voxel type   {voxel_type}");
    say!("spacing      {sx:.4} x {sy:.4} x {sz:.4} mm");
    say!("orientation  {}", header.grid.orientation());
    for (index, row) in affine.iter().enumerate() {
        let title = if index == 0 { "affine (mm)" } else { "" };
        say!("{title:<12} [{:10.4} {:10.4} {:10.4} {:10.4}]", row[0], row[1], row[2], row[3]);
    }
    say!("minimum      {}", number(minimum));
    say!("maximum      {}", number(maximum));
    say!("mean         {}", number(mean));
    if non_finite > 0 {
        say!("not finite   {non_finite} voxels");
    }
    Ok(())
}
