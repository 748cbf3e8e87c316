//! On the CPU: runs of elements over the threads, one parameter after the other.

use super::{Optimizer, Rule, shares};
use crate::cpu::CpuCall;

/// Elements per task.
const TASK: usize = 1 << 13;

pub(super) fn run(op: &Optimizer, call: &CpuCall<'_>) {
    if op.flag(call.inputs()).is_some_and(|flag| call.u32(flag)[0] != 0) {
        return;
    }
    let hyper: [f32; 4] = call.f32(0).try_into().expect("checked when recorded");
    let count = op.parameters(call.inputs());
    for index in 0..count {
        let gradient = call.f32(1 + count + index);
        let output = |kind: usize| call.f32_mut(kind * count + index);
        let parameter = output(0);
        match op.rule {
            Rule::Sgd { momentum, nesterov } => {
                let momentum = momentum as f32;
                call.threads().for_zipped_chunks([parameter, output(1)], TASK, |task, [p, velocity]| {
                    let gradient = &gradient[task * TASK..][..p.len()];
                    for ((p, v), g) in p.iter_mut().zip(velocity).zip(gradient) {
                        let g = clipped(op, g * hyper[3]);
                        *v = momentum * *v - hyper[0] * g;
                        *p += if nesterov { momentum * *v - hyper[0] * g } else { *v };
                    }
                });
            }
            Rule::Adam { beta1, beta2, epsilon, amsgrad: false } => {
                let (new1, new2, epsilon) = shares(beta1, beta2, epsilon);
                call.threads().for_zipped_chunks([parameter, output(1), output(2)], TASK, |task, [p, m, v]| {
                    let gradient = &gradient[task * TASK..][..p.len()];
                    for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(gradient) {
                        let g = clipped(op, g * hyper[3]);
                        *m += (g - *m) * new1;
                        *v += (g * g - *v) * new2;
                        *p -= hyper[0] * *m / (v.sqrt() + epsilon);
                    }
                });
            }
            Rule::Adam { beta1, beta2, epsilon, amsgrad: true } => {
                let (new1, new2, epsilon) = shares(beta1, beta2, epsilon);
                let tensors = [parameter, output(1), output(2), output(3)];
                call.threads().for_zipped_chunks(tensors, TASK, |task, [p, m, v, v_hat]| {
                    let gradient = &gradient[task * TASK..][..p.len()];
                    for ((((p, m), v), v_hat), g) in p.iter_mut().zip(m).zip(v).zip(v_hat).zip(gradient) {
                        let g = clipped(op, g * hyper[3]);
                        *m += (g - *m) * new1;
                        *v += (g * g - *v) * new2;
                        *v_hat = v_hat.max(*v);
                        *p -= hyper[0] * *m / (v_hat.sqrt() + epsilon);
                    }
                });
            }
            Rule::Nadam { beta1, beta2, epsilon } => {
                let (new1, new2, epsilon) = shares(beta1, beta2, epsilon);
                call.threads().for_zipped_chunks([parameter, output(1), output(2)], TASK, |task, [p, m, v]| {
                    let gradient = &gradient[task * TASK..][..p.len()];
                    for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(gradient) {
                        let g = clipped(op, g * hyper[3]);
                        *m += (g - *m) * new1;
                        *v += (g * g - *v) * new2;
                        *p -= hyper[0] * (hyper[1] * g + hyper[2] * *m) / (v.sqrt() + epsilon);
                    }
                });
            }
        }
    }
}

#[inline]
fn clipped(op: &Optimizer, g: f32) -> f32 {
    if op.clip == 0.0 { g } else { g.max(-op.clip).min(op.clip) }
}
