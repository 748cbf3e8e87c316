//! Bulk copies: `cp.async.bulk`, plain and through tensor maps.

use super::tensor_map::{Element, TensorMap};
use crate::decode::{Address, Outcome, Rare, Slot};
use crate::execute::{Bulk, Context, PARAM_WINDOW, Piece, WINDOW_MASK};
use crate::fault::{Checked, FaultKind, problem};
use crate::memory::{D, Planes, lanes};

/// What a bulk copy moves.
pub(crate) enum Extent {
    /// So many bytes from one address.
    Linear { global: Address, bytes: Slot },
    /// A box of a tensor at these coordinates, innermost first.
    Box { map: Address, coordinates: Vec<Slot> },
}

impl Extent {
    /// The pieces for one lane, and the value of bytes outside the tensor.
    fn pieces(&self, cx: &mut Context, lane: usize, shared: u64) -> Checked<(Vec<Piece>, u32)> {
        match self {
            Extent::Linear { global, bytes } => {
                let from = cx.addresses(global)[lane];
                let bytes = cx.warp.registers.w[*bytes as usize][lane];
                if !(from | shared | bytes as u64).is_multiple_of(16) {
                    let message = format!(
                        "a bulk copy of {bytes} bytes, 0x{from:x} and 0x{shared:x}: multiples of 16 are needed"
                    );
                    return problem(FaultKind::Misaligned, lane, message);
                }
                let piece = |i: u64| Piece { shared: shared + 16 * i, global: from + 16 * i, first: 0, bytes: 16 };
                Ok(((0..bytes as u64 / 16).map(piece).collect(), 0))
            }
            Extent::Box { map, coordinates } => {
                let at = cx.addresses(map)[lane];
                let map = read_map(cx, lane, at)?;
                if map.dims.len() != coordinates.len() {
                    let message =
                        format!("{} coordinates for a tensor map of rank {}", coordinates.len(), map.dims.len());
                    return problem(FaultKind::BadOperand, lane, message);
                }
                if !shared.is_multiple_of(128) {
                    return problem(FaultKind::Misaligned, lane, format!("the box at 0x{shared:x} of shared memory"));
                }
                let start: Vec<i64> =
                    coordinates.iter().map(|&slot| cx.warp.registers.w[slot as usize][lane] as i32 as i64).collect();
                Ok((box_pieces(&map, &start, shared), fill_pattern(&map)))
            }
        }
    }
}

fn fill_pattern(map: &TensorMap) -> u32 {
    match map.element {
        Element::F16 if map.nan_fill => 0x7fff_7fff,
        Element::Bf16 if map.nan_fill => 0x7fff_7fff,
        Element::F32 if map.nan_fill => 0x7fff_ffff,
        _ => 0,
    }
}

fn read_map(cx: &mut Context, lane: usize, at: u64) -> Checked<TensorMap> {
    let mut bytes = [0u8; 128];
    if at & WINDOW_MASK == PARAM_WINDOW || at < cx.launch.arguments.len() as u64 {
        let start = (at & !WINDOW_MASK) as usize;
        if let Some(found) = cx.launch.arguments.get(start..start + 128) {
            bytes.copy_from_slice(found);
        }
    } else {
        for i in 0..8 {
            let mut planes: Planes = [[0; 32]; 4];
            let address = [at + 16 * i; 32];
            cx.launch.view.load(cx.worker, &address, 1 << lane, 16, &mut planes)?;
            for k in 0..4 {
                bytes[16 * i as usize + 4 * k..][..4].copy_from_slice(&planes[k][lane].to_le_bytes());
            }
        }
    }
    match TensorMap::decode(&bytes) {
        Some(map) => Ok(map),
        None => problem(FaultKind::BadOperand, lane, format!("no tensor map at 0x{at:x}")),
    }
}

/// Sixteen-byte pieces of a box, row by row.
fn box_pieces(map: &TensorMap, start: &[i64], shared: u64) -> Vec<Piece> {
    let size = map.element.bytes();
    let per_piece = (16 / size) as i64;
    let row_bytes = map.box_dims[0] as u64 * size;
    let rows: u64 = map.box_dims[1..].iter().map(|&d| d as u64).product();
    let mut pieces = Vec::with_capacity((rows * row_bytes / 16) as usize);
    for row in 0..rows {
        let mut rest = row;
        let mut base = map.address as i64;
        let mut inside = true;
        for (i, &extent) in map.box_dims[1..].iter().enumerate() {
            let at = start[i + 1] + (rest % extent as u64) as i64;
            rest /= extent as u64;
            inside &= at >= 0 && (at as u64) < map.dims[i + 1];
            base = base.wrapping_add(at.wrapping_mul(map.strides[i] as i64));
        }
        for chunk in 0..row_bytes / 16 {
            let x = start[0] + chunk as i64 * per_piece;
            let first = (-x).clamp(0, per_piece);
            let last = (map.dims[0] as i64 - x).clamp(0, per_piece);
            let count = if inside { (last - first).max(0) } else { 0 };
            pieces.push(Piece {
                shared: map.swizzle.apply(shared + row * row_bytes + chunk * 16),
                global: base.wrapping_add((x + first) * size as i64) as u64,
                first: (first * size as i64) as u32,
                bytes: (count * size as i64) as u32,
            });
        }
    }
    pieces
}

/// Global to shared memory, complete when the mbarrier has counted the bytes.
pub(crate) struct BulkLoad {
    pub extent: Extent,
    pub to: Address,
    pub barrier: Address,
}

impl Rare for BulkLoad {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let (warp, at) = (cx.warp.index, cx.warp.at);
        for lane in lanes(mask) {
            let to = cx.addresses(&self.to)[lane] & !WINDOW_MASK;
            let barrier = cx.addresses(&self.barrier)[lane] & !WINDOW_MASK;
            cx.check_initialised(lane, barrier)?;
            let (pieces, fill) = self.extent.pieces(cx, lane, to)?;
            for piece in &pieces {
                let who = cx.cta.clocks.who(warp, false);
                cx.cta.shared.begin_copy(who, lane, piece.shared, 16)?;
            }
            count_bytes(cx, &pieces, false);
            let bytes = pieces.len() as u32 * 16;
            cx.cta.copies.bulk.push(Bulk { warp, lane, at, pieces, barrier: Some((barrier, bytes)), group: 0, fill });
        }
        Ok(Outcome::Next)
    }
}

/// Shared to global memory, complete when the bulk group is waited for.
pub(crate) struct BulkStore {
    pub extent: Extent,
    pub from: Address,
}

impl Rare for BulkStore {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let (warp, at) = (cx.warp.index, cx.warp.at);
        for lane in lanes(mask) {
            let from = cx.addresses(&self.from)[lane] & !WINDOW_MASK;
            let (pieces, fill) = self.extent.pieces(cx, lane, from)?;
            for piece in &pieces {
                let who = cx.cta.clocks.who(warp, true);
                // Read now for the checks alone; the copy reads again when it lands.
                cx.cta.shared.read_sixteen(who, lane, piece.shared)?;
                cx.cta.shared.check_proxy(lane, piece.shared)?;
                cx.cta.shared.mark_leaving(lane, piece.shared, 16, true)?;
            }
            count_bytes(cx, &pieces, true);
            let group = cx.cta.copies.warps[warp].bulk_committed[lane];
            cx.cta.copies.bulk.push(Bulk { warp, lane, at, pieces, barrier: None, group, fill });
        }
        Ok(Outcome::Next)
    }
}

fn count_bytes(cx: &mut Context, pieces: &[Piece], store: bool) {
    let counters = &mut cx.cta.counters;
    let bytes: u64 = pieces.iter().map(|piece| piece.bytes as u64).sum();
    if store {
        counters.global_store_bytes += bytes;
    } else {
        counters.global_load_bytes += bytes;
    }
    counters.global_requests += 1;
    let mut last = u64::MAX;
    for piece in pieces.iter().filter(|piece| piece.bytes > 0) {
        for sector in piece.global / 32..=(piece.global + piece.bytes as u64 - 1) / 32 {
            counters.global_sectors += u64::from(sector != last);
            last = sector;
        }
    }
}

pub(crate) struct BulkCommit;

impl Rare for BulkCommit {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let queue = &mut cx.cta.copies.warps[cx.warp.index];
        for lane in lanes(mask) {
            queue.bulk_committed[lane] += 1;
        }
        Ok(Outcome::Next)
    }
}

/// `cp.async.bulk.wait_group n`. Waiting for the reads only (`.read`) waits for the whole copy here.
pub(crate) struct BulkWait(pub u32);

impl Rare for BulkWait {
    fn execute(&self, cx: &mut Context, mask: u32) -> Checked<Outcome> {
        let warp = cx.warp.index;
        let committed = cx.cta.copies.warps[warp].bulk_committed;
        let mut queue = std::mem::take(&mut cx.cta.copies.bulk);
        let due = |bulk: &mut Bulk| {
            bulk.barrier.is_none()
                && bulk.warp == warp
                && mask >> bulk.lane & 1 != 0
                && bulk.group.saturating_add(self.0) < committed[bulk.lane]
        };
        let landing: Vec<Bulk> = queue.extract_if(.., due).collect();
        cx.cta.copies.bulk = queue;
        for bulk in landing {
            for pieces in bulk.pieces.chunks(32) {
                store_pieces(cx, &bulk, pieces)?;
            }
        }
        Ok(Outcome::Next)
    }
}

/// Splits a range into aligned units of 16, 8, 4, 2 or 1 bytes.
fn units(mut at: u64, mut bytes: u32) -> Vec<(u64, u32)> {
    let mut list = Vec::new();
    while bytes > 0 {
        let mut unit = 16;
        while !at.is_multiple_of(unit as u64) || unit > bytes {
            unit /= 2;
        }
        list.push((at, unit));
        at += unit as u64;
        bytes -= unit;
    }
    list
}

/// The whole ones of up to 32 pieces, as if each were one lane of a warp's access.
fn whole_pieces(pieces: &[Piece]) -> (D, u32) {
    let (mut address, mut whole) = ([0; 32], 0);
    for (i, piece) in pieces.iter().enumerate() {
        address[i] = piece.global;
        whole |= u32::from(piece.bytes == 16 && piece.global.is_multiple_of(16)) << i;
    }
    (address, whole)
}

/// Lands up to 32 pieces in global memory.
fn store_pieces(cx: &mut Context, bulk: &Bulk, pieces: &[Piece]) -> Checked {
    let (address, mut whole) = whole_pieces(pieces);
    let mut planes: Planes = [[0; 32]; 4];
    for i in lanes(whole) {
        for k in 0..4 {
            planes[k][i] = cx.cta.shared.peek(bulk.lane, pieces[i].shared + 4 * k as u64, 4)? as u32;
        }
    }
    // A fault is met again piece by piece, which knows the thread to blame.
    if whole != 0 && cx.launch.view.store(cx.worker, &address, whole, 16, &planes).is_err() {
        whole = 0;
    }
    for (i, piece) in pieces.iter().enumerate() {
        if whole >> i & 1 == 0 {
            store_piece(cx, bulk, piece)?;
        } else {
            cx.cta.shared.mark_leaving(bulk.lane, piece.shared, 16, false)?;
        }
    }
    Ok(())
}

fn store_piece(cx: &mut Context, bulk: &Bulk, piece: &Piece) -> Checked {
    cx.cta.shared.mark_leaving(bulk.lane, piece.shared, 16, false)?;
    let mut data = [0u8; 16];
    for word in 0..4 {
        let value = cx.cta.shared.peek(bulk.lane, piece.shared + 4 * word, 4)? as u32;
        data[4 * word as usize..][..4].copy_from_slice(&value.to_le_bytes());
    }
    for (at, unit) in units(piece.global, piece.bytes) {
        let start = piece.first as usize + (at - piece.global) as usize;
        let mut planes: Planes = [[0; 32]; 4];
        for (i, &byte) in data[start..start + unit as usize].iter().enumerate() {
            planes[i / 4][bulk.lane] |= (byte as u32) << (i % 4 * 8);
        }
        cx.launch.view.store(cx.worker, &[at; 32], 1 << bulk.lane, unit, &planes)?;
    }
    Ok(())
}

impl Context<'_, '_> {
    /// Lands the bulk copies that this mbarrier waits for.
    pub(super) fn land_bulk_for(&mut self, address: u64) -> Checked {
        if self.cta.copies.bulk.is_empty() {
            return Ok(());
        }
        let mut queue = std::mem::take(&mut self.cta.copies.bulk);
        let landing: Vec<Bulk> =
            queue.extract_if(.., |bulk| bulk.barrier.is_some_and(|(barrier, _)| barrier == address)).collect();
        self.cta.copies.bulk = queue;
        for bulk in landing {
            for pieces in bulk.pieces.chunks(32) {
                self.load_pieces(&bulk, pieces)?;
            }
            let Some((barrier, bytes)) = bulk.barrier else { continue };
            self.complete_bytes(bulk.warp, bulk.lane, barrier, bytes)?;
        }
        Ok(())
    }

    /// Lands up to 32 pieces in shared memory.
    fn load_pieces(&mut self, bulk: &Bulk, pieces: &[Piece]) -> Checked {
        pieces.iter().for_each(|piece| self.cta.shared.note_async(piece.shared));
        let (address, mut whole) = whole_pieces(pieces);
        let mut planes: Planes = [[0; 32]; 4];
        // A fault is met again piece by piece, which knows the thread to blame.
        if whole != 0 && self.launch.view.load(self.worker, &address, whole, 16, &mut planes).is_err() {
            whole = 0;
        }
        let who = self.cta.clocks.who(bulk.warp, false);
        for (i, piece) in pieces.iter().enumerate() {
            if whole >> i & 1 != 0 {
                let values = [planes[0][i], planes[1][i], planes[2][i], planes[3][i]];
                self.cta.shared.land_quad(who, bulk.lane, piece.shared, values)?;
            } else if piece.bytes == 0 {
                self.cta.shared.land_quad(who, bulk.lane, piece.shared, [bulk.fill; 4])?;
            }
        }
        let rest = pieces.iter().enumerate().filter(|(i, piece)| whole >> i & 1 == 0 && piece.bytes > 0);
        for (_, piece) in rest {
            self.load_piece(bulk, piece)?;
        }
        Ok(())
    }

    fn load_piece(&mut self, bulk: &Bulk, piece: &Piece) -> Checked {
        let mut data = [0u8; 16];
        for chunk in data.chunks_mut(4) {
            chunk.copy_from_slice(&bulk.fill.to_le_bytes());
        }
        for (at, unit) in units(piece.global, piece.bytes) {
            let start = piece.first as usize + (at - piece.global) as usize;
            let mut planes: Planes = [[0; 32]; 4];
            self.launch.view.load(self.worker, &[at; 32], 1 << bulk.lane, unit, &mut planes)?;
            for (i, byte) in data[start..start + unit as usize].iter_mut().enumerate() {
                *byte = (planes[i / 4][bulk.lane] >> (i % 4 * 8)) as u8;
            }
        }
        let who = self.cta.clocks.who(bulk.warp, false);
        let word = |k: usize| u32::from_le_bytes([data[4 * k], data[4 * k + 1], data[4 * k + 2], data[4 * k + 3]]);
        self.cta.shared.land_quad(who, bulk.lane, piece.shared, [word(0), word(1), word(2), word(3)])
    }
}
