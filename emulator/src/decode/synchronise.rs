//! Barriers, fences, and operations among the lanes of a warp.

use super::arithmetic::operands;
use super::function::Decoder;
use super::modifiers::Modifiers;
use super::op::{Barrier, BarrierMode, Collective, Op, ShuffleMode, VoteMode};
use super::{Decoded, Refusal, malformed};
use crate::counters::Class;
use crate::syntax::{Instruction, Operand, Space, Type};

impl Decoder<'_> {
    pub(super) fn synchronise(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Warp;
        match base {
            "bar" | "barrier" => {
                self.class = Class::Barrier;
                self.barrier(base == "bar", ins, m)
            }
            "membar" | "fence" => {
                self.class = Class::Barrier;
                self.fence(base == "membar", ins, m)
            }
            "activemask" => {
                m.need("b32")?;
                let [to] = operands(ins)?;
                Ok(Op::ActiveMask(self.target_w(to)?))
            }
            "shfl" => {
                m.need("sync")?;
                let mode = m
                    .one_of(&[
                        ("up", ShuffleMode::Up),
                        ("down", ShuffleMode::Down),
                        ("bfly", ShuffleMode::Butterfly),
                        ("idx", ShuffleMode::Index),
                    ])
                    .ok_or(Refusal::Unsupported)?;
                m.need("b32")?;
                let [to, a, b, c, members] = operands(ins)?;
                let (d, in_range) = match to {
                    Operand::Pair(d, p) => (self.target_w(d)?, Some(self.target_p(p)?)),
                    d => (self.target_w(d)?, None),
                };
                let (a, b, c) = (self.w(a, Type::B32)?, self.w(b, Type::B32)?, self.w(c, Type::B32)?);
                let members = self.w(members, Type::B32)?;
                Ok(Op::Collective(members, Collective::Shuffle { mode, d, in_range, a, b, c }))
            }
            "vote" => {
                // CUB writes `vote.ballot.sync`.
                if !m.take_any("sync") {
                    return Err(Refusal::Unsupported);
                }
                let mode = m
                    .one_of(&[
                        ("all", VoteMode::All),
                        ("any", VoteMode::Any),
                        ("uni", VoteMode::Uniform),
                        ("ballot", VoteMode::Ballot),
                    ])
                    .ok_or(Refusal::Unsupported)?;
                m.need(if mode == VoteMode::Ballot { "b32" } else { "pred" })?;
                let [to, a, members] = operands(ins)?;
                let d = if mode == VoteMode::Ballot { self.target_w(to)? } else { self.target_p(to)? };
                let a = self.p(a)?;
                Ok(Op::Collective(self.w(members, Type::B32)?, Collective::Vote { mode, d, a }))
            }
            "match" => {
                let all = m.one_of(&[("all", true), ("any", false)]).ok_or(Refusal::Unsupported)?;
                m.need("sync")?;
                let ty = m.ty()?;
                let [to, a, members] = operands(ins)?;
                let (d, same) = match to {
                    Operand::Pair(d, p) if all => (self.target_w(d)?, Some(self.target_p(p)?)),
                    d => (self.target_w(d)?, None),
                };
                let members = self.w(members, Type::B32)?;
                let collective = match (ty, all) {
                    (Type::B32, false) => Collective::MatchAnyW { d, a: self.w(a, ty)? },
                    (Type::B64, false) => Collective::MatchAnyD { d, a: self.d(a, ty)? },
                    (Type::B32, true) => Collective::MatchAllW { d, same, a: self.w(a, ty)? },
                    (Type::B64, true) => Collective::MatchAllD { d, same, a: self.d(a, ty)? },
                    _ => return Err(Refusal::Unsupported),
                };
                Ok(Op::Collective(members, collective))
            }
            "redux" => self.redux(ins, m),
            _ => {
                m.need("sync")?;
                let [to, members] = operands(ins)?;
                let (d, p) = match to {
                    Operand::Pair(d, p) => match &**d {
                        Operand::Sink => (None, self.target_p(p)?),
                        d => (Some(self.target_w(d)?), self.target_p(p)?),
                    },
                    _ => return malformed("elect needs two results"),
                };
                Ok(Op::Collective(self.w(members, Type::B32)?, Collective::Elect { d, p }))
            }
        }
    }

    fn redux(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        m.need("sync")?;
        let op = m.next()?;
        let ty = m.ty()?;
        let f: fn(u32, u32) -> u32 = match (op, ty) {
            ("add", Type::U32 | Type::S32) => u32::wrapping_add,
            ("min", Type::U32) => |a, b| a.min(b),
            ("max", Type::U32) => |a, b| a.max(b),
            ("min", Type::S32) => |a, b| (a as i32).min(b as i32) as u32,
            ("max", Type::S32) => |a, b| (a as i32).max(b as i32) as u32,
            ("and", Type::B32) => |a, b| a & b,
            ("or", Type::B32) => |a, b| a | b,
            ("xor", Type::B32) => |a, b| a ^ b,
            _ => return Err(Refusal::Unsupported),
        };
        let [to, a, members] = operands(ins)?;
        let (d, a) = (self.target_w(to)?, self.w(a, ty)?);
        Ok(Op::Collective(self.w(members, Type::B32)?, Collective::Redux { d, a, f: Box::new(f) }))
    }

    fn fence(&mut self, old: bool, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.no_operands(ins)?;
        if old {
            let device = m.one_of(&[("gl", true), ("sys", true), ("cta", false)]).ok_or(Refusal::Unsupported)?;
            self.has_fences |= device;
            return Ok(Op::Fence { device });
        }
        if m.take("proxy") {
            let between = m.one_of(&[("async", true), ("alias", false)]).ok_or(Refusal::Unsupported)?;
            let shared = m.space().is_none_or(|space| space == Space::Shared);
            return Ok(if between && shared { Op::ProxyFence } else { Op::Fence { device: false } });
        }
        if m.take("mbarrier_init") {
            m.need("release")?;
            m.need("cluster")?;
            return Ok(Op::Fence { device: false });
        }
        m.one_of(&[("sc", ()), ("acq_rel", ()), ("acquire", ()), ("release", ())]).ok_or(Refusal::Unsupported)?;
        let device = m
            .one_of(&[("cta", false), ("cluster", false), ("gpu", true), ("sys", true)])
            .ok_or(Refusal::Unsupported)?;
        self.has_fences |= device;
        Ok(Op::Fence { device })
    }

    fn barrier(&mut self, short: bool, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        if m.take("warp") {
            m.need("sync")?;
            let [members] = operands(ins)?;
            return Ok(Op::Collective(self.w(members, Type::B32)?, Collective::Sync));
        }
        if m.take("cluster") {
            // A cluster of one CTA: arriving is enough, and waiting is over at once.
            if m.take("arrive") {
                m.one_of(&[("release", ()), ("relaxed", ())]);
            } else {
                m.need("wait")?;
                m.take("acquire");
            }
            m.take("aligned");
            return Ok(Op::Nop);
        }
        m.take("cta");
        let kind = m.next()?;
        let from = &ins.operands[..];
        if kind == "red" {
            let op = m.next()?;
            let aligned = m.take("aligned") || short;
            let popc = op == "popc";
            m.need(if popc { "u32" } else { "pred" })?;
            let (to, id, count, p) = match from {
                [to, id, p] => (to, id, None, p),
                [to, id, count, p] => (to, id, Some(count), p),
                _ => return malformed("wrong number of operands"),
            };
            let p = self.p(p)?;
            let mode = match op {
                "popc" => BarrierMode::Popc(self.target_w(to)?, p),
                "and" => BarrierMode::And(self.target_p(to)?, p),
                "or" => BarrierMode::Or(self.target_p(to)?, p),
                _ => return Err(Refusal::Unsupported),
            };
            let id = self.w(id, Type::U32)?;
            let count = count.map(|count| self.w(count, Type::U32)).transpose()?;
            return Ok(Op::Barrier(Barrier { mode, id, count, aligned }));
        }
        let mode = match kind {
            "sync" => BarrierMode::Sync,
            "arrive" => BarrierMode::Arrive,
            _ => return Err(Refusal::Unsupported),
        };
        let aligned = m.take("aligned") || short;
        let (id, count) = match from {
            [id] => (id, None),
            [id, count] => (id, Some(count)),
            _ => return malformed("wrong number of operands"),
        };
        let id = self.w(id, Type::U32)?;
        let count = count.map(|count| self.w(count, Type::U32)).transpose()?;
        Ok(Op::Barrier(Barrier { mode, id, count, aligned }))
    }
}
