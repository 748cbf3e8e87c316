//! Asynchronous copies and mbarriers.

use super::arithmetic::operands;
use super::function::Decoder;
use super::modifiers::Modifiers;
use super::op::{Op, Rare};
use super::{Decoded, Refusal, malformed};
use crate::copy::{
    Action, BulkCommit, BulkLoad, BulkStore, BulkWait, CopyAsync, CopyCommit, CopyNotify, CopyWait, Extent, Mbarrier,
    TestWait,
};
use crate::counters::Class;
use crate::syntax::{Instruction, Operand, Space, Type};

fn rare(op: impl Rare + 'static) -> Decoded<Op> {
    Ok(Op::Rare(Box::new(op)))
}

fn constant(operand: &Operand) -> Decoded<u32> {
    match operand {
        Operand::Integer(value) if *value <= u32::MAX as u64 => Ok(*value as u32),
        other => malformed(format!("{other} should be a small constant")),
    }
}

impl Decoder<'_> {
    pub(super) fn asynchronous(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::AsyncCopy;
        if base == "mbarrier" {
            self.class = Class::Barrier;
            return self.mbarrier(ins, m);
        }
        m.need("async")?;
        match m.next()? {
            "commit_group" => operands::<0>(ins).and_then(|_| rare(CopyCommit)),
            "wait_all" => operands::<0>(ins).and_then(|_| rare(CopyWait(None))),
            "wait_group" => {
                let [n] = operands(ins)?;
                rare(CopyWait(Some(constant(n)?)))
            }
            "mbarrier" => {
                m.need("arrive")?;
                let counted = m.take("noinc");
                let generic = m.space().is_none();
                m.need("b64")?;
                let [address] = operands(ins)?;
                rare(CopyNotify { address: self.address(address)?, generic, counted })
            }
            "ca" => self.copy_lanes(false, ins, m),
            "cg" => self.copy_lanes(true, ins, m),
            "bulk" => self.bulk(ins, m),
            _ => Err(Refusal::Unsupported),
        }
    }

    fn copy_lanes(&mut self, only_16: bool, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        if m.space() != Some(Space::Shared) || m.space() != Some(Space::Global) {
            return Err(Refusal::Unsupported);
        }
        let hint = m.take("L2::cache_hint");
        m.skip_cache_hints();
        let hint = hint || m.take("L2::cache_hint");
        let mut list = &ins.operands[..];
        if hint {
            list = list.split_last().ok_or(Refusal::Unsupported)?.1;
        }
        let [to, from, bytes, rest @ ..] = list else { return malformed("wrong number of operands") };
        let bytes = constant(bytes)?;
        if !matches!(bytes, 4 | 8 | 16) || (only_16 && bytes != 16) {
            return malformed(format!("a copy of {bytes} bytes"));
        }
        let (mut source_bytes, mut ignore) = (None, None);
        match rest {
            [] => {}
            [one] if self.p(one).is_ok() && !matches!(one, Operand::Integer(_)) => ignore = Some(self.p(one)?),
            [one] => source_bytes = Some(self.w(one, Type::U32)?),
            _ => return Err(Refusal::Unsupported),
        }
        rare(CopyAsync { to: self.address(to)?, from: self.address(from)?, bytes, source_bytes, ignore })
    }

    fn bulk(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        if m.take("commit_group") {
            return operands::<0>(ins).and_then(|_| rare(BulkCommit));
        }
        if m.take("wait_group") {
            m.take("read");
            let [n] = operands(ins)?;
            return rare(BulkWait(constant(n)?));
        }
        if m.take("prefetch") {
            // A hint to the cache.
            while m.peek().is_some() {
                m.next()?;
            }
            return Ok(Op::Nop);
        }
        let rank = if m.take("tensor") {
            Some(m.one_of(&[("1d", 1), ("2d", 2), ("3d", 3), ("4d", 4), ("5d", 5)]).ok_or(Refusal::Unsupported)?)
        } else {
            None
        };
        let (to, from) = (m.space(), m.space());
        m.take("tile");
        match (to, from) {
            (Some(Space::Shared), Some(Space::Global)) => {
                m.need("mbarrier::complete_tx::bytes")?;
                let hint = m.take("L2::cache_hint");
                match (rank, &ins.operands[..]) {
                    (Some(rank), [to, tensor, barrier, policy @ ..]) if policy.len() == hint as usize => {
                        let extent = self.tensor_box(tensor, rank)?;
                        rare(BulkLoad { extent, to: self.address(to)?, barrier: self.address(barrier)? })
                    }
                    (None, [to, from, bytes, barrier, policy @ ..]) if policy.len() == hint as usize => {
                        let extent = Extent::Linear { global: self.address(from)?, bytes: self.w(bytes, Type::U32)? };
                        rare(BulkLoad { extent, to: self.address(to)?, barrier: self.address(barrier)? })
                    }
                    _ => Err(Refusal::Unsupported),
                }
            }
            (Some(Space::Global), Some(Space::Shared)) => {
                m.need("bulk_group")?;
                let hint = m.take("L2::cache_hint");
                match (rank, &ins.operands[..]) {
                    (Some(rank), [tensor, from, policy @ ..]) if policy.len() == hint as usize => {
                        let extent = self.tensor_box(tensor, rank)?;
                        self.has_proxies = true;
                        rare(BulkStore { extent, from: self.address(from)? })
                    }
                    (None, [to, from, bytes, policy @ ..]) if policy.len() == hint as usize => {
                        let extent = Extent::Linear { global: self.address(to)?, bytes: self.w(bytes, Type::U32)? };
                        self.has_proxies = true;
                        rare(BulkStore { extent, from: self.address(from)? })
                    }
                    _ => Err(Refusal::Unsupported),
                }
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    fn tensor_box(&mut self, operand: &Operand, rank: usize) -> Decoded<Extent> {
        let Operand::TensorAddress(_, _, coordinates) = operand else {
            return malformed(format!("{operand} should be a tensor map with coordinates"));
        };
        if coordinates.len() != rank {
            return malformed(format!("{operand} should have {rank} coordinates"));
        }
        let coordinates = coordinates.iter().map(|c| self.w(c, Type::S32)).collect::<Decoded<Vec<_>>>()?;
        Ok(Extent::Box { map: self.address(operand)?, coordinates })
    }

    fn mbarrier(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let kind = m.next()?;
        let expect = m.take("expect_tx");
        let no_complete = m.take("noComplete");
        let parity = m.take("parity");
        // Orderings and scopes: the emulator's barriers always release and acquire.
        while let Some(part) = m.peek() {
            if !matches!(part, "release" | "acquire" | "relaxed" | "cta" | "cluster") {
                break;
            }
            m.next()?;
        }
        let generic = m.space().is_none();
        m.need("b64")?;
        let from = &ins.operands[..];
        let simple = |action, address, result| rare(Mbarrier { action, address, generic, result });
        match (kind, from) {
            ("init", [address, count]) => {
                let (address, count) = (self.address(address)?, self.w(count, Type::U32)?);
                simple(Action::Init(count), address, None)
            }
            ("inval", [address]) => simple(Action::Invalidate, self.address(address)?, None),
            ("expect_tx", [address, bytes]) => {
                let (address, bytes) = (self.address(address)?, self.w(bytes, Type::U32)?);
                simple(Action::ExpectBytes(bytes), address, None)
            }
            ("complete_tx", [address, bytes]) => {
                let (address, bytes) = (self.address(address)?, self.w(bytes, Type::U32)?);
                simple(Action::CompleteBytes(bytes), address, None)
            }
            ("arrive" | "arrive_drop", list) => {
                if no_complete && expect {
                    return Err(Refusal::Unsupported);
                }
                let (result, list) = match list {
                    [Operand::Address(..), ..] => (None, list),
                    [result, rest @ ..] => (self.target(result)?, rest),
                    [] => return malformed("no operands"),
                };
                let drop = kind == "arrive_drop";
                let (address, value) = match list {
                    [address] => (address, None),
                    [address, value] => (address, Some(self.w(value, Type::U32)?)),
                    _ => return malformed("wrong number of operands"),
                };
                let address = self.address(address)?;
                let (count, bytes) = if expect { (None, value) } else { (value, None) };
                simple(Action::Arrive { count, bytes, drop }, address, result)
            }
            ("pending_count", [to, state]) => {
                let result = self.target(to)?;
                let state = self.d(state, Type::B64)?;
                let address = super::Address { base: None, offset: 0 };
                simple(Action::Pending(state), address, result)
            }
            ("test_wait" | "try_wait", [to, address, phase, hint @ ..])
                if hint.len() <= (kind == "try_wait") as usize =>
            {
                let (result, address) = (self.target_p(to)?, self.address(address)?);
                let phase = self.source(phase, if parity { Type::U32 } else { Type::B64 })?;
                rare(TestWait { address, generic, result, phase })
            }
            _ => Err(Refusal::Unsupported),
        }
    }
}
