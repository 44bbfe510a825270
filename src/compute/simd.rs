//! Loops compiled once more for each kind of vectors that a processor may have.

/// 1.5 * 2^23: a number added to it is rounded to an integer, which then stands in the lowest bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// Vectors that loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Widest {
    /// 512 bits, with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256 bits, with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every processor of the architecture has.
    Base,
}

/// What this processor has; a look-up after the first call.
pub(super) fn widest() -> Widest {
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        let fma = has!("fma");
        if fma && has!("avx512f") && has!("avx512dq") && has!("avx512vl") && has!("avx512bw") {
            return Widest::Avx512;
        }
        if fma && has!("avx2") {
            return Widest::Avx2;
        }
    }
    Widest::Base
}

/// Whether the compiler may fuse a multiplication and an addition in code that every processor runs.
pub(super) const FUSED_BASE: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// Defines a function that runs its body in the widest vectors of this processor. The body is an `#[inline(always)]` function
/// of the same arguments with one more constant: whether a multiplication and an addition are one operation.
macro_rules! in_widest {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $(<$generic:ident: $bound:path>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? = $body:ident $(::<$param:ident>)?) => {
        $(#[$doc])*
        $vis fn $name $(<$generic: $bound>)? ($($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512 $(<$generic: $bound>)? ($($arg: $type),*) $(-> $out)? {
                $body::<true $(, $param)?>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$generic: $bound>)? ($($arg: $type),*) $(-> $out)? {
                $body::<true $(, $param)?>($($arg),*)
            }
            match crate::compute::simd::widest() {
                // SAFETY: the processor has the features, as `widest` found.
                #[cfg(target_arch = "x86_64")]
                crate::compute::simd::Widest::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                crate::compute::simd::Widest::Avx2 => unsafe { avx2($($arg),*) },
                crate::compute::simd::Widest::Base => {
                    $body::<{ crate::compute::simd::FUSED_BASE } $(, $param)?>($($arg),*)
                }
            }
        }
    };
}

pub(super) use in_widest;
