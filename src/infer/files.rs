//! From an image's file to a label map's file, slice by slice: memory holds as many slices as a window is deep.
//!
//! The label map is the one that [`Predictor::predict`] makes of the same image in memory, bit for bit: both go through the
//! same windows, and what depends on all of an image (its mean and deviation) is found in the same order.

use std::path::Path;

use super::{
    HostMemory, PredictOptions, Predictor, Segmentation, WindowRunner,
    blend::{decide, not_finite},
    segment_stream,
};
use crate::{
    Error, Result,
    data::preprocess::{Fit, Normalization, Scores, Visit},
    files::Spool,
    formats::{Header, SliceReader, SliceWriter, Slices, Store, VoxelType, read_header, write_slices},
};

/// An image that was read from its first voxel to its last, and can be labelled.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What its file says about itself.
    pub header: Header,
    scores: Scores,
    /// What was inflated, if it is kept.
    slices: Option<Slices>,
}

/// Probabilities of a volume on their way to a file, which wants all voxels of one class before those of the next.
struct Planar {
    spool: Spool,
    /// Voxels of the volume.
    voxels: usize,
    plane: Vec<f32>,
}

impl Predictor {
    /// The host memory that labelling an image with this header takes.
    pub fn host_memory(&self, header: &Header) -> HostMemory {
        HostMemory::of(header, self.preprocessing(), self.classes(), self.options(), self.loading_bytes())
    }

    /// The same without mirrored copies.
    pub fn host_memory_unmirrored(&self, header: &Header) -> HostMemory {
        let options = PredictOptions { mirror: [false; 3], ..self.options().clone() };
        HostMemory::of(header, self.preprocessing(), self.classes(), &options, self.loading_bytes())
    }

    /// Reads an image whole, a slice at a time, and finds how its intensities are to be scaled. A compressed one is inflated
    /// into the store, and read from there until it has been labelled.
    ///
    /// # Errors
    /// A file that is damaged; an image with other channels than the network's, or with voxels that are not finite; a store
    /// that cannot be written.
    pub fn examine(&self, path: &Path, store: &Store) -> Result<Examined> {
        // What cannot be labelled need not be inflated.
        self.check_header(&read_header(path)?, path)?;
        let slices = Slices::open(path, store)?;
        let header = slices.header().clone();
        let preprocessing = self.preprocessing();
        let [x, y, z] = header.grid.extents;
        let plane = x * y;
        let mut slice = vec![0.0; plane * header.channels];
        let mut play = |visit: &mut Visit<'_>| {
            let mut reader = slices.read()?;
            for _ in 0..z {
                read_finite(&mut reader, path, &mut slice)?;
                slice.chunks_exact(plane).enumerate().for_each(|(channel, values)| visit(channel, values));
            }
            Ok(())
        };
        if preprocessing.normalization != Normalization::Volume {
            // No statistics are taken; the file is read all the same, to find what is wrong with it.
            play(&mut |_, _| ())?;
        }
        let scores = Scores::of(preprocessing.normalization, &preprocessing.ct, header.channels, play)?;
        Ok(Examined { header, scores, slices: slices.is_kept().then_some(slices) })
    }

    /// Labels an image and writes the label map, and probabilities if there is a path for them. An image that the store had
    /// no room to keep is inflated again.
    ///
    /// # Errors
    /// An image that has changed since it was examined; what reading, the network and writing say.
    pub fn predict_file(
        &mut self,
        image: &Path,
        examined: &Examined,
        store: &Store,
        labels: &Path,
        probabilities: Option<&Path>,
    ) -> Result<()> {
        let Examined { header, scores, slices } = examined;
        let again;
        let slices = match slices {
            Some(slices) => slices,
            None => {
                again = Slices::open(image, store)?;
                &again
            }
        };
        if slices.header() != header {
            return Err(Error::input(image, "has changed", "try again when it is complete"));
        }
        let reader = slices.read()?;
        let classes = self.classes();
        let mut planar = probabilities.map(|path| Planar::new(path, header)).transpose()?;
        write_slices(labels, header, 1, VoxelType::U8, |file| {
            let mut sink = |d: usize, labels: &[u8], values: &[f32]| {
                file.write(labels)?;
                planar.as_mut().map_or(Ok(()), |planar| planar.put(d, values))
            };
            let mut read = scored(reader, scores, image);
            match self.preprocessing().fit {
                Fit::Pad => self.slide(header, &mut read, &mut sink)?,
                Fit::Resize => self.stretch(header, &mut read, &mut sink)?,
            }
            let Some((path, planar)) = probabilities.zip(planar.as_mut()) else { return Ok(()) };
            write_slices(path, header, classes, VoxelType::F32, |file| planar.write(file))
        })
    }

    /// At the image's own resolution, window by window.
    fn slide(&mut self, header: &Header, read: &mut ReadSlice<'_>, sink: &mut TakeSlice<'_>) -> Result<()> {
        let channels = header.channels;
        let volume = Segmentation { extent: header.grid.shape(), channels, classes: self.classes() };
        let [_, y, x] = volume.extent;
        let (patch, options) = (self.preprocessing().extent, self.options().clone());
        let mut slice = vec![0.0; y * x * channels];
        let mut feed = |out: &mut [f32]| {
            read(&mut slice)?;
            for (channel, values) in slice.chunks_exact(y * x).enumerate() {
                let out = out.iter_mut().skip(channel).step_by(channels);
                out.zip(values).for_each(|(out, value)| *out = *value);
            }
            Ok(())
        };
        segment_stream(
            volume,
            patch,
            &options,
            &mut feed,
            &mut |window, output| self.run(window, output),
            &mut |slice| sink(slice.d, slice.labels, slice.probabilities),
        )
    }

    /// Stretched to the network's extents, and the probabilities stretched back.
    fn stretch(&mut self, header: &Header, read: &mut ReadSlice<'_>, sink: &mut TakeSlice<'_>) -> Result<()> {
        let (placement, channels, classes) =
            (self.preprocessing().placement(&header.grid), header.channels, self.classes());
        let patch = self.preprocessing().extent;
        let mut runner = WindowRunner::new(channels, classes, patch, self.options());
        placement.stretch_slices(channels, read, &mut runner.window)?;
        let values = runner.predict(&mut |window, output| self.run(window, output))?;
        if let Some(at) = values.iter().position(|p| !p.is_finite()) {
            let voxel = at / classes;
            let place = [voxel / (patch[1] * patch[2]), voxel / patch[2] % patch[1], voxel % patch[2]];
            return Err(not_finite(values[at], place));
        }
        let [x, y, z] = header.grid.extents;
        let (mut slice, mut labels) = (vec![0.0; y * x * classes], vec![0; y * x]);
        for d in 0..z {
            placement.stretch_back_slice(values, classes, d, &mut slice);
            labels.iter_mut().zip(slice.chunks_exact(classes)).for_each(|(label, p)| *label = decide(p));
            sink(d, &labels, &slice)?;
        }
        Ok(())
    }
}

/// Fills in the next slice `[C, H, W]` of an image, scaled.
type ReadSlice<'a> = dyn FnMut(&mut [f32]) -> Result<()> + 'a;

/// Takes a slice's position, labels `[H, W]` and probabilities `[H, W, classes]`.
type TakeSlice<'a> = dyn FnMut(usize, &[u8], &[f32]) -> Result<()> + 'a;

fn scored<'a>(
    mut reader: SliceReader,
    scores: &'a Scores,
    path: &'a Path,
) -> impl FnMut(&mut [f32]) -> Result<()> + 'a {
    move |slice| {
        read_finite(&mut reader, path, slice)?;
        let plane = slice.len() / reader.header().channels;
        slice.chunks_exact_mut(plane).enumerate().for_each(|(channel, values)| scores.apply(channel, values));
        Ok(())
    }
}

fn read_finite(reader: &mut SliceReader, path: &Path, slice: &mut [f32]) -> Result<()> {
    reader.read(slice)?;
    if slice.iter().any(|value| !value.is_finite()) {
        return Err(Error::input(path, "voxels that are not finite", "replace them, for example by 0"));
    }
    Ok(())
}

impl Planar {
    fn new(path: &Path, header: &Header) -> Result<Self> {
        let plane = vec![0.0; header.grid.extents[0] * header.grid.extents[1]];
        Ok(Self { spool: Spool::new(path)?, voxels: header.voxels(), plane })
    }

    /// Takes the probabilities `[H, W, classes]` of slice `d`.
    fn put(&mut self, d: usize, values: &[f32]) -> Result<()> {
        let classes = values.len() / self.plane.len();
        for class in 0..classes {
            let of_class = values.iter().skip(class).step_by(classes);
            self.plane
                .iter_mut()
                .zip(of_class)
                .for_each(|(plane, value)| *plane = f32::from_bits(value.to_bits().to_le()));
            let place = (class * self.voxels + d * self.plane.len()) * size_of::<f32>();
            self.spool.put(place as u64, bytemuck::cast_slice(&self.plane))?;
        }
        Ok(())
    }

    fn write(&mut self, file: &mut SliceWriter<'_>) -> Result<()> {
        self.spool.play(|bytes| file.write(bytes))
    }
}
