//! x86-64: one file per instruction set, each with its sixteen lanes and its table of kernels.

mod avx2;
mod avx512;

use crate::set::KernelSet;

/// The sets that this machine can run, the fastest last.
pub(crate) fn available() -> Vec<&'static KernelSet> {
    let mut sets = Vec::new();
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    if avx2 {
        sets.push(&avx2::SET);
    }
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    if avx2 && avx512 {
        sets.push(&avx512::SET);
    }
    sets
}
