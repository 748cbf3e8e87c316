//! Scalar functions to functions over 32 lanes. Each closure becomes its own loop, which the compiler vectorises.

use super::op::{Fn2, Op, Slot};
use crate::memory::{D, W};

pub(super) fn w1(f: impl Fn(u32) -> u32 + Send + Sync + 'static, to: Slot, a: Slot) -> Op {
    Op::W1(
        Box::new(move |a: &W| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane]);
            }
            out
        }),
        to,
        a,
    )
}

pub(super) fn w2(f: impl Fn(u32, u32) -> u32 + Send + Sync + 'static, to: Slot, a: Slot, b: Slot) -> Op {
    Op::W2(
        Box::new(move |a: &W, b: &W| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane]);
            }
            out
        }),
        to,
        a,
        b,
    )
}

pub(super) fn w3(f: impl Fn(u32, u32, u32) -> u32 + Send + Sync + 'static, to: Slot, [a, b, c]: [Slot; 3]) -> Op {
    Op::W3(
        Box::new(move |a: &W, b: &W, c: &W| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane], c[lane]);
            }
            out
        }),
        to,
        a,
        b,
        c,
    )
}

pub(super) fn w4(f: impl Fn(u32, u32, u32, u32) -> u32 + Send + Sync + 'static, to: Slot, from: [Slot; 4]) -> Op {
    Op::W4(
        Box::new(move |a: &W, b: &W, c: &W, d: &W| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane], c[lane], d[lane]);
            }
            out
        }),
        to,
        from,
    )
}

pub(super) fn d1(f: impl Fn(u64) -> u64 + Send + Sync + 'static, to: Slot, a: Slot) -> Op {
    Op::D1(
        Box::new(move |a: &D| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane]);
            }
            out
        }),
        to,
        a,
    )
}

pub(super) fn d2(f: impl Fn(u64, u64) -> u64 + Send + Sync + 'static, to: Slot, a: Slot, b: Slot) -> Op {
    Op::D2(
        Box::new(move |a: &D, b: &D| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane]);
            }
            out
        }),
        to,
        a,
        b,
    )
}

pub(super) fn d3(f: impl Fn(u64, u64, u64) -> u64 + Send + Sync + 'static, to: Slot, [a, b, c]: [Slot; 3]) -> Op {
    Op::D3(
        Box::new(move |a: &D, b: &D, c: &D| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane], c[lane]);
            }
            out
        }),
        to,
        a,
        b,
        c,
    )
}

pub(super) fn w_to_d(f: impl Fn(u32) -> u64 + Send + Sync + 'static, to: Slot, a: Slot) -> Op {
    Op::WtoD(
        Box::new(move |a: &W| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane]);
            }
            out
        }),
        to,
        a,
    )
}

pub(super) fn ww_to_d(f: impl Fn(u32, u32) -> u64 + Send + Sync + 'static, to: Slot, a: Slot, b: Slot) -> Op {
    Op::WWtoD(
        Box::new(move |a: &W, b: &W| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane]);
            }
            out
        }),
        to,
        a,
        b,
    )
}

pub(super) fn wwd_to_d(f: impl Fn(u32, u32, u64) -> u64 + Send + Sync + 'static, to: Slot, [a, b, c]: [Slot; 3]) -> Op {
    Op::WWDtoD(
        Box::new(move |a: &W, b: &W, c: &D| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane], c[lane]);
            }
            out
        }),
        to,
        a,
        b,
        c,
    )
}

pub(super) fn dw_to_d(f: impl Fn(u64, u32) -> u64 + Send + Sync + 'static, to: Slot, a: Slot, b: Slot) -> Op {
    Op::DWtoD(
        Box::new(move |a: &D, b: &W| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane]);
            }
            out
        }),
        to,
        a,
        b,
    )
}

pub(super) fn d_to_w(f: impl Fn(u64) -> u32 + Send + Sync + 'static, to: Slot, a: Slot) -> Op {
    Op::DtoW(
        Box::new(move |a: &D| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane]);
            }
            out
        }),
        to,
        a,
    )
}

pub(super) fn dd_to_w(f: impl Fn(u64, u64) -> u32 + Send + Sync + 'static, to: Slot, a: Slot, b: Slot) -> Op {
    Op::DDtoW(
        Box::new(move |a: &D, b: &D| {
            let mut out = [0; 32];
            for lane in 0..32 {
                out[lane] = f(a[lane], b[lane]);
            }
            out
        }),
        to,
        a,
        b,
    )
}

/// A comparison of 32-bit values as a lane mask.
pub(super) fn compare_w(f: impl Fn(u32, u32) -> bool + Send + Sync + 'static) -> Fn2<W, W, u32> {
    Box::new(move |a: &W, b: &W| {
        let mut mask = 0;
        for lane in 0..32 {
            mask |= (f(a[lane], b[lane]) as u32) << lane;
        }
        mask
    })
}

/// A comparison of 64-bit values as a lane mask.
pub(super) fn compare_d(f: impl Fn(u64, u64) -> bool + Send + Sync + 'static) -> Fn2<D, D, u32> {
    Box::new(move |a: &D, b: &D| {
        let mut mask = 0;
        for lane in 0..32 {
            mask |= (f(a[lane], b[lane]) as u32) << lane;
        }
        mask
    })
}
