//! Operations among the lanes of a warp: shuffle, vote, match, reduce.

use super::Context;
use crate::decode::{Collective, ShuffleMode, VoteMode};
use crate::fault::Checked;
use crate::memory::{W, lanes};

impl Context<'_, '_> {
    /// Executes a collective whose members are all in `mask`.
    pub(super) fn collect(&mut self, mask: u32, collective: &Collective) -> Checked {
        let live = self.warp.live;
        let registers = &mut self.warp.registers;
        match collective {
            Collective::Sync => self.cta.clocks.warp_sync(self.warp.index),
            Collective::Shuffle { mode, d, in_range, a, b, c } => {
                let (a, b, c) = (registers.w[*a as usize], registers.w[*b as usize], registers.w[*c as usize]);
                let (out, valid) = shuffle(*mode, &a, &b, &c);
                registers.put_w(*d, &out, mask, live);
                if let Some(p) = in_range {
                    registers.put_p(*p, valid, mask);
                }
            }
            Collective::Vote { mode, d, a } => {
                let votes = registers.predicate(*a) & mask;
                match mode {
                    VoteMode::Ballot => registers.put_w(*d, &[votes; 32], mask, live),
                    VoteMode::All => registers.put_p(*d, if votes == mask { u32::MAX } else { 0 }, mask),
                    VoteMode::Any => registers.put_p(*d, if votes != 0 { u32::MAX } else { 0 }, mask),
                    VoteMode::Uniform => {
                        let uniform = votes == mask || votes == 0;
                        registers.put_p(*d, if uniform { u32::MAX } else { 0 }, mask);
                    }
                }
            }
            Collective::MatchAnyW { d, a } => {
                let out = match_any(&registers.w[*a as usize], mask);
                registers.put_w(*d, &out, mask, live);
            }
            Collective::MatchAnyD { d, a } => {
                let out = match_any(&registers.d[*a as usize], mask);
                registers.put_w(*d, &out, mask, live);
            }
            Collective::MatchAllW { d, same, a } => {
                let all = match_all(&registers.w[*a as usize], mask);
                registers.put_w(*d, &[if all { mask } else { 0 }; 32], mask, live);
                if let Some(p) = same {
                    registers.put_p(*p, if all { u32::MAX } else { 0 }, mask);
                }
            }
            Collective::MatchAllD { d, same, a } => {
                let all = match_all(&registers.d[*a as usize], mask);
                registers.put_w(*d, &[if all { mask } else { 0 }; 32], mask, live);
                if let Some(p) = same {
                    registers.put_p(*p, if all { u32::MAX } else { 0 }, mask);
                }
            }
            Collective::Redux { d, a, f } => {
                let row = registers.w[*a as usize];
                let out = lanes(mask).map(|lane| row[lane]).reduce(f).unwrap_or_default();
                registers.put_w(*d, &[out; 32], mask, live);
            }
            Collective::Elect { d, p } => {
                let leader = mask.trailing_zeros();
                if let Some(d) = d {
                    registers.put_w(*d, &[leader; 32], mask, live);
                }
                registers.put_p(*p, 1 << leader, mask);
            }
        }
        Ok(())
    }
}

/// The shuffled row and the lanes whose source lies in their segment.
fn shuffle(mode: ShuffleMode, a: &W, b: &W, c: &W) -> (W, u32) {
    let mut out = [0; 32];
    let mut valid = 0;
    for lane in 0..32u32 {
        let b = b[lane as usize] & 31;
        let clamp = c[lane as usize] & 31;
        let segment = c[lane as usize] >> 8 & 31;
        let last = lane & segment | clamp & !segment;
        let first = lane & segment;
        let (source, ok) = match mode {
            ShuffleMode::Up => (lane.wrapping_sub(b), lane as i32 - b as i32 >= last as i32),
            ShuffleMode::Down => (lane + b, lane + b <= last),
            ShuffleMode::Butterfly => (lane ^ b, lane ^ b <= last),
            ShuffleMode::Index => {
                let source = first | b & !segment;
                (source, source <= last)
            }
        };
        let source = if ok { source } else { lane };
        valid |= (ok as u32) << lane;
        out[lane as usize] = a[source as usize & 31];
    }
    (out, valid)
}

fn match_any<T: PartialEq>(row: &[T; 32], mask: u32) -> W {
    let mut out = [0; 32];
    for lane in lanes(mask) {
        out[lane] = lanes(mask).filter(|&other| row[other] == row[lane]).fold(0, |m, other| m | 1 << other);
    }
    out
}

fn match_all<T: PartialEq>(row: &[T; 32], mask: u32) -> bool {
    let first = mask.trailing_zeros() as usize;
    lanes(mask).all(|lane| row[lane] == row[first])
}
