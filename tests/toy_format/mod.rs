//! A format that Gyrus does not know: all of it is in this folder, and one line registers it.
//!
//! Text in front (`TOY`, a remark, extents, spacing, channels, type, padded to 96 bytes), then numbers, the last slice first:
//! so that a reader has something to do.

use std::io::{self, Write};

use gyrus::{
    Result,
    formats::{Encoding, Format, Header, Native, Reader, Refusal, Source, VoxelType, Writer},
    volume::Grid,
};

/// Bytes of the text.
pub const TEXT: usize = 96;

pub struct Toy;

impl Format for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn ending(&self) -> &'static str {
        ".toy"
    }

    fn recognises(&self, start: &[u8]) -> bool {
        start.starts_with(b"TOY ")
    }

    fn reader<'a>(&self, mut source: Source<'a>) -> Result<Box<dyn Reader + 'a>> {
        let mut bytes = vec![0; TEXT];
        let is_whole = source.read_header(&mut bytes)?;
        let Some(header) = is_whole.then(|| parse(&bytes)).flatten() else {
            return Err(source.bad("not a toy file", "give another"));
        };
        if TEXT as u64 + header.voxel_bytes() > source.capacity() {
            return Err(source.truncated(&header));
        }
        let mut channels = vec![0; header.voxel_bytes() as usize];
        source.read(&mut channels, &header)?;
        source.finish(&header)?;
        // Slices back into their order.
        let [x, y, _] = header.grid.extents;
        let slice = x * y * header.encoding.voxel_type.bytes();
        let channels = channels.chunks_exact(header.channel_bytes() as usize);
        let voxels = channels.flat_map(|channel| channel.rchunks_exact(slice).flatten().copied()).collect();
        Ok(Box::new(ToyReader { header, voxels, next: 0 }))
    }

    fn writer(&self, like: &Header, channels: usize, voxel_type: VoxelType) -> Result<Box<dyn Writer>, Refusal> {
        let remark = match &like.native {
            Some(native) if native.format == self.name() => remark(&native.bytes).unwrap_or_default(),
            _ => String::new(),
        };
        let ([x, y, z], [dx, dy, dz]) = (like.grid.extents, like.grid.spacing);
        let mut text = format!("TOY {remark}|{x} {y} {z} {dx} {dy} {dz} {channels} {voxel_type}|").into_bytes();
        if text.len() > TEXT {
            return Err((format!("{} characters in front", text.len()), "choose a shorter remark"));
        }
        text.resize(TEXT, b' ');
        let channel = x * y * z * voxel_type.bytes();
        Ok(Box::new(ToyWriter { text, channel, slice: x * y * voxel_type.bytes(), voxels: Vec::new() }))
    }
}

fn remark(text: &[u8]) -> Option<String> {
    Some(std::str::from_utf8(text).ok()?.strip_prefix("TOY ")?.split('|').next()?.to_owned())
}

fn parse(bytes: &[u8]) -> Option<Header> {
    let text = std::str::from_utf8(bytes).ok()?;
    let words: Vec<&str> = text.split('|').nth(1)?.split(' ').collect();
    let &[x, y, z, dx, dy, dz, channels, voxel_type] = &words[..] else { return None };
    let voxel_type = match voxel_type {
        "u8" => VoxelType::U8,
        "u16" => VoxelType::U16,
        "f32" => VoxelType::F32,
        _ => return None,
    };
    let extents = [x.parse().ok()?, y.parse().ok()?, z.parse().ok()?];
    let spacing = [dx.parse().ok()?, dy.parse().ok()?, dz.parse().ok()?];
    Some(Header {
        grid: Grid::spaced(extents, spacing),
        channels: channels.parse().ok()?,
        encoding: Encoding { voxel_type, is_big_endian: false, scaling: None },
        native: Some(Native { format: "toy", version: "1", bytes: bytes.to_vec() }),
    })
}

struct ToyReader {
    header: Header,
    voxels: Vec<u8>,
    next: usize,
}

impl Reader for ToyReader {
    fn header(&self) -> &Header {
        &self.header
    }

    fn read(&mut self, voxels: &mut [u8]) -> Result<()> {
        voxels.copy_from_slice(&self.voxels[self.next..][..voxels.len()]);
        self.next += voxels.len();
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        self.next += bytes as usize;
        Ok(())
    }

    fn skips_freely(&self) -> bool {
        false
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

struct ToyWriter {
    text: Vec<u8>,
    channel: usize,
    slice: usize,
    voxels: Vec<u8>,
}

impl Writer for ToyWriter {
    fn begin(&mut self, file: &mut dyn Write) -> io::Result<()> {
        file.write_all(&self.text)
    }

    fn voxels(&mut self, _file: &mut dyn Write, voxels: &[u8]) -> io::Result<()> {
        self.voxels.extend_from_slice(voxels);
        Ok(())
    }

    fn end(&mut self, file: &mut dyn Write) -> io::Result<()> {
        let channels = self.voxels.chunks_exact(self.channel);
        channels.flat_map(|channel| channel.rchunks_exact(self.slice)).try_for_each(|slice| file.write_all(slice))
    }
}
