//! What turned one tensor into another: the mistakes that converters make, told apart by name.
//!
//! First a digest that doesn't depend on order says whether the second tensor holds the same values at all. If it does, they
//! were moved, and the orders that formats use are tried; if not, they were changed.

use crate::{Relayout, Tensor, for_each_chunk};
use apr_tensor::{DType, weight_dtypes};
use std::collections::HashMap;
use std::fmt;

/// Heads that models have, in rows; longer ones first, because a block of 64 rows that moved is also four of 16.
const HEAD_DIMS: [usize; 8] = [256, 192, 128, 96, 80, 64, 32, 16];
/// How far a copy may begin from its place to be found, in bytes.
const MAX_SHIFT_BYTES: usize = 64 << 10;
/// How much of a copy is looked for at first.
const PROBE_BYTES: usize = 64;
/// The most that values may be off from an exact scaling, of their size: what two roundings to bfloat16 make at most.
const SCALING_TOLERANCE: f64 = 1.0 / 128.0;

/// Why the values of the second tensor aren't those of the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// Different numbers of NaN.
    NotANumber {
        /// In the first tensor.
        a: usize,
        /// In the second tensor.
        b: usize,
    },
    /// Every value of one tensor is zero.
    AllZero {
        /// The second's; else the first's.
        in_second: bool,
    },
    /// One bit of one value.
    OneBit {
        /// Counted from the lowest, of binary32.
        bit: u32,
    },
    /// Stored column by column.
    Transposed,
    /// The rows of each head are in the order of the other rotary convention.
    RotaryOrder {
        /// Rows of a head.
        head_dim: usize,
    },
    /// Whole heads changed places.
    HeadOrder {
        /// Rows of a head.
        head_dim: usize,
    },
    /// Rows changed places.
    RowOrder,
    /// Columns changed places.
    ColumnOrder,
    /// Values changed places, in no order that is known.
    ValueOrder,
    /// Every value times a number.
    Scaled {
        /// That number.
        by: f64,
    },
    /// Every value plus a number.
    Offset {
        /// That number.
        by: f64,
    },
    /// The bytes of the first tensor, taken for another dtype.
    ReadAs {
        /// What they are.
        is: DType,
        /// What they were taken for.
        read: DType,
    },
    /// The bytes of the first tensor from another place on.
    Shifted {
        /// How many bytes late the second tensor begins; early where negative.
        bytes: i64,
    },
    /// Rounded to another dtype.
    Encoded {
        /// The first's.
        a: DType,
        /// The second's.
        b: DType,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NotANumber { a, b } => write!(f, "NaN: {a} values against {b}"),
            Cause::AllZero { in_second } => {
                let which = if *in_second { "second" } else { "first" };
                write!(f, "all zero in the {which} file: not loaded or not written")
            }
            Cause::OneBit { bit } => write!(f, "one bit of one value differs (bit {bit} of binary32)"),
            Cause::Transposed => f.write_str("transposed: the data is stored column by column"),
            Cause::RotaryOrder { head_dim } => {
                write!(f, "rows permuted between rotary conventions (heads of {head_dim} rows)")
            }
            Cause::HeadOrder { head_dim } => write!(f, "the same heads in another order (heads of {head_dim} rows)"),
            Cause::RowOrder => f.write_str("the same rows in another order"),
            Cause::ColumnOrder => f.write_str("the same columns in another order"),
            Cause::ValueOrder => f.write_str("the same values in another order"),
            Cause::Scaled { by } => write!(f, "scaled: every value is {by:.6} times the first file's"),
            Cause::Offset { by } => write!(f, "offset: every value is the first file's plus {by:.6}"),
            Cause::ReadAs { is, read } => write!(f, "dtype confusion: the bytes of {is} values, read as {read}"),
            Cause::Shifted { bytes } if *bytes > 0 => {
                write!(f, "shifted: the second file's data begins {bytes} bytes late (a wrong offset)")
            }
            Cause::Shifted { bytes } => {
                write!(f, "shifted: the second file's data begins {} bytes early (a wrong offset)", -bytes)
            }
            Cause::Encoded { a, b } => write!(f, "encoded anew: {a} against {b}"),
        }
    }
}

impl Cause {
    /// What puts it right.
    pub fn fix(&self) -> &'static str {
        match self {
            Cause::NotANumber { .. } => "find the step that made them: `apr validate` names the first in each tensor",
            Cause::AllZero { .. } => "convert again from the source; the writer left the tensor out",
            Cause::OneBit { .. } => "copy the file again: storage or memory flipped it",
            Cause::Transposed => "convert again; the converter took [in, out] for [out, in]",
            Cause::RotaryOrder { .. } => {
                "convert again; the rows of q and k are reordered once for GGUF's llama type, and for no other"
            }
            Cause::HeadOrder { .. } => "convert again; the converter split or joined the heads in a wrong order",
            Cause::RowOrder | Cause::ColumnOrder | Cause::ValueOrder => {
                "convert again; the converter or an editing step reordered the tensor"
            }
            Cause::Scaled { .. } => "divide by the factor: a scale was applied twice or left out",
            Cause::Offset { .. } => {
                "subtract it: an offset, such as the 1 of gemma's norms, was applied twice or left out"
            }
            Cause::ReadAs { .. } => "convert again from the source; the dtype byte was misread",
            Cause::Shifted { .. } => "convert again; the reader added the offset to a wrong start or alignment",
            Cause::Encoded { .. } => "nothing, where the loss was asked for; else convert again without `--dtype`",
        }
    }

    /// The cause of a difference in values, if it has one that is known. Holds the values of both in memory.
    pub(crate) fn between(a: &Tensor, b: &Tensor) -> Option<Self> {
        let (x, y) = (values(a), values(b));
        let n_nan = |values: &[f32]| values.iter().filter(|v| v.is_nan()).count();
        match (n_nan(&x), n_nan(&y)) {
            (m, n) if m != n => {
                return read_as(a, &y).or_else(|| shift(a, b)).or(Some(Cause::NotANumber { a: m, b: n }));
            }
            _ => {}
        }
        for (values, in_second) in [(&x, false), (&y, true)] {
            if values.iter().all(|&v| v == 0.0) {
                return Some(Cause::AllZero { in_second });
            }
        }
        let mut different = x.iter().zip(&y).map(|(x, y)| x.to_bits() ^ y.to_bits()).filter(|&bits| bits != 0);
        if let (Some(bits), None) = (different.next(), different.next())
            && a.dtype == b.dtype
            && bits.is_power_of_two()
        {
            return Some(Cause::OneBit { bit: bits.trailing_zeros() });
        }
        if digest(&x) == digest(&y) {
            return Some(order(&x, &y, a.canonical_rows(), a.canonical_columns()));
        }
        read_as(a, &y)
            .or_else(|| shift(a, b))
            .or_else(|| scaling(&x, &y))
            .or_else(|| (a.dtype != b.dtype).then_some(Cause::Encoded { a: a.dtype, b: b.dtype }))
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let mut values = Vec::new();
    for_each_chunk(tensor, |chunk| values.extend_from_slice(chunk));
    values
}

/// The same for the same values in any order.
fn digest(values: &[f32]) -> u64 {
    values.iter().fold(0, |sum: u64, value| sum.wrapping_add(mix(value.to_bits().into())))
}

/// Spreads the bits of a number over 64. Source: the finaliser of Vigna's splitmix64.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The same for the same values in the same order.
fn ordered(hashes: impl Iterator<Item = u64>) -> u64 {
    hashes.fold(0x9e37_79b9_7f4a_7c15, |hash, next| mix(hash ^ next).wrapping_add(hash.rotate_left(5)))
}

/// Which order the values of `x` have in `y`, which holds the same ones.
fn order(x: &[f32], y: &[f32], rows: usize, columns: usize) -> Cause {
    if rows > 1 && columns > 1 {
        let is_transposed = |i: usize| y[i].to_bits() == x[(i % rows) * columns + i / rows].to_bits();
        if (0..rows * columns).all(is_transposed) {
            return Cause::Transposed;
        }
    }
    let row_hashes = |values: &[f32]| -> Vec<u64> {
        values.chunks_exact(columns.max(1)).map(|row| ordered(row.iter().map(|v| v.to_bits().into()))).collect()
    };
    let (x_rows, y_rows) = (row_hashes(x), row_hashes(y));
    let heads = || HEAD_DIMS.into_iter().filter(|&head_dim| rows.is_multiple_of(head_dim));
    for head_dim in heads() {
        let rotary = Relayout::RotaryInterleaved { head_dim };
        let (mut to, mut from) = (0..rows, 0..rows);
        if to.all(|row| y_rows[row] == x_rows[rotary.canonical_row(row)])
            || from.all(|row| x_rows[row] == y_rows[rotary.canonical_row(row)])
        {
            return Cause::RotaryOrder { head_dim };
        }
    }
    for head_dim in heads() {
        let heads = |rows: &[u64]| rows.chunks_exact(head_dim).map(|head| ordered(head.iter().copied())).collect();
        if same_multiset(heads(&x_rows), heads(&y_rows)) {
            return Cause::HeadOrder { head_dim };
        }
    }
    if same_multiset(x_rows, y_rows) {
        return Cause::RowOrder;
    }
    let column_hashes = |values: &[f32]| -> Vec<u64> {
        let at = |column: usize| (0..rows).map(move |row| values[row * columns + column].to_bits().into());
        (0..columns).map(|column| ordered(at(column))).collect()
    };
    if same_multiset(column_hashes(x), column_hashes(y)) { Cause::ColumnOrder } else { Cause::ValueOrder }
}

fn same_multiset(a: Vec<u64>, b: Vec<u64>) -> bool {
    let mut counts = HashMap::new();
    a.into_iter().for_each(|hash| *counts.entry(hash).or_insert(0i64) += 1);
    b.into_iter().for_each(|hash| *counts.entry(hash).or_insert(0i64) -= 1);
    counts.values().all(|&count| count == 0)
}

/// Whether `y` is what the bytes of `a` mean in another dtype of the same size.
fn read_as(a: &Tensor, y: &[f32]) -> Option<Cause> {
    let n = a.shape.n_elements();
    let others = weight_dtypes().map(|row| row.dtype).filter(|&read| read != a.dtype);
    others.filter(|read| read.bytes_for(n) == Some(a.data.len())).find_map(|read| {
        let misread = Tensor::new(a.name.clone(), a.role, read, a.shape.clone(), a.data.clone(), a.relayout).ok()?;
        let same =
            values(&misread).iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()));
        same.then_some(Cause::ReadAs { is: a.dtype, read })
    })
}

/// Whether one tensor's bytes are the other's from another place on.
fn shift(a: &Tensor, b: &Tensor) -> Option<Cause> {
    if a.dtype != b.dtype || a.relayout != b.relayout {
        return None;
    }
    let begins_within = |late: &[u8], whole: &[u8]| {
        let probe = late.get(..PROBE_BYTES)?;
        let end = whole.len().min(MAX_SHIFT_BYTES + PROBE_BYTES);
        let mut places = whole[..end].windows(PROBE_BYTES).enumerate().skip(1);
        // A probe of equal bytes would be found at every place of a stretch of them.
        let is_telling = probe.iter().any(|&byte| byte != probe[0]);
        let is_copy = |at: usize| is_telling && whole[at..] == late[..late.len() - at] && at < whole.len() / 2;
        places.find(|(at, window)| *window == probe && is_copy(*at)).map(|(at, _)| at as i64)
    };
    let late = begins_within(&b.data, &a.data);
    late.or_else(|| begins_within(&a.data, &b.data).map(|bytes| -bytes)).map(|bytes| Cause::Shifted { bytes })
}

/// Whether `y` is `x` times a number, or plus one, up to rounding.
fn scaling(x: &[f32], y: &[f32]) -> Option<Cause> {
    let pairs = || x.iter().zip(y).map(|(&x, &y)| (f64::from(x), f64::from(y))).filter(|(x, y)| (x * y).is_finite());
    let sum = |f: &dyn Fn(f64, f64) -> f64| pairs().map(|(x, y)| f(x, y)).sum::<f64>();
    let by = sum(&|x, y| x * y) / sum(&|x, _| x * x);
    let is_close = |error: f64, size: f64| error.abs() <= SCALING_TOLERANCE * size;
    if by.is_finite()
        && (by - 1.0).abs() > 4.0 * SCALING_TOLERANCE
        && pairs().all(|(x, y)| is_close(y - by * x, y.abs()))
    {
        return Some(Cause::Scaled { by });
    }
    let by = sum(&|x, y| y - x) / pairs().count().max(1) as f64;
    let largest = pairs().fold(0.0f64, |largest, (x, y)| largest.max(x.abs()).max(y.abs()));
    let is_offset = by.abs() > 4.0 * SCALING_TOLERANCE * largest;
    (is_offset && pairs().all(|(x, y)| is_close(y - x - by, largest))).then_some(Cause::Offset { by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare_values;
    use apr_tensor::{Shape, codec};

    const ROWS: usize = 64;
    const COLUMNS: usize = 6;

    fn tensor(dtype: DType, bytes: Vec<u8>) -> Tensor {
        let shape = Shape::new(&[ROWS as u64, COLUMNS as u64]).unwrap();
        Tensor::new("t".into(), None, dtype, shape, bytes.into(), Relayout::Identity).unwrap()
    }

    fn encoded(dtype: DType, values: &[f32]) -> Tensor {
        let mut bytes = Vec::new();
        codec::encode(dtype, values, &mut bytes).unwrap();
        tensor(dtype, bytes)
    }

    fn numbers() -> Vec<f32> {
        (0..ROWS * COLUMNS).map(|i| (i as f32).sin()).collect()
    }

    fn cause_in(dtype: DType, change: impl FnOnce(&mut Vec<f32>)) -> Option<Cause> {
        let values = numbers();
        let mut changed = values.clone();
        change(&mut changed);
        let found = compare_values(&encoded(dtype, &values), &encoded(dtype, &changed));
        assert!(found.n_different > 0);
        found.cause
    }

    fn cause(change: impl FnOnce(&mut Vec<f32>)) -> Option<Cause> {
        cause_in(DType::F32, change)
    }

    fn moved_rows(v: &[f32], from: impl Fn(usize) -> usize) -> Vec<f32> {
        (0..ROWS).flat_map(|row| v[from(row) * COLUMNS..][..COLUMNS].to_vec()).collect()
    }

    #[test]
    fn values_that_were_moved() {
        assert_eq!(
            cause(|v| *v = (0..v.len()).map(|i| v[(i % ROWS) * COLUMNS + i / ROWS]).collect()),
            Some(Cause::Transposed)
        );
        let rotary = Relayout::RotaryInterleaved { head_dim: 16 };
        let rotary_order = Some(Cause::RotaryOrder { head_dim: 16 });
        assert_eq!(cause(|v| *v = moved_rows(v, |row| rotary.canonical_row(row))), rotary_order);
        assert_eq!(cause(|v| *v = moved_rows(v, |row| rotary.stored_row(row))), rotary_order);
        assert_eq!(cause(|v| v.rotate_left(32 * COLUMNS)), Some(Cause::HeadOrder { head_dim: 32 }));
        assert_eq!(cause(|v| v.rotate_left(COLUMNS)), Some(Cause::RowOrder));
        assert_eq!(cause(|v| v.chunks_mut(COLUMNS).for_each(|row| row.swap(1, 4))), Some(Cause::ColumnOrder));
        assert_eq!(cause(|v| v.swap(3, 77)), Some(Cause::ValueOrder));
    }

    #[test]
    fn values_that_were_changed() {
        assert_eq!(cause(|v| v.fill(0.0)), Some(Cause::AllZero { in_second: true }));
        assert_eq!(cause(|v| v[7] = f32::NAN), Some(Cause::NotANumber { a: 0, b: 1 }));
        assert_eq!(cause(|v| v[7] = f32::from_bits(v[7].to_bits() ^ (1 << 9))), Some(Cause::OneBit { bit: 9 }));
        for (dtype, by) in [(DType::F32, 8.0f32), (DType::BF16, 0.3), (DType::F16, -2.0)] {
            let Some(Cause::Scaled { by: found }) = cause_in(dtype, |v| v.iter_mut().for_each(|v| *v *= by)) else {
                panic!("{dtype} times {by}");
            };
            assert!((found / f64::from(by) - 1.0).abs() < 0.002, "{found} against {by}");
        }
        let Some(Cause::Offset { by }) = cause_in(DType::F16, |v| v.iter_mut().for_each(|v| *v += 1.0)) else {
            panic!("plus one");
        };
        assert!((by - 1.0).abs() < 1e-3, "{by}");
        assert_eq!(cause(|v| v.iter_mut().for_each(|v| *v = v.exp())), None, "no known cause");
        assert_eq!(cause(|v| v[3] += 1.0), None, "one value is not all");
    }

    #[test]
    fn bytes_that_were_misread() {
        let as_is = encoded(DType::F16, &numbers());
        let mut misread = vec![0.0; ROWS * COLUMNS];
        codec::decode(DType::BF16, &as_is.data, &mut misread);
        let found = compare_values(&as_is, &encoded(DType::F32, &misread));
        assert_eq!(found.cause, Some(Cause::ReadAs { is: DType::F16, read: DType::BF16 }));

        let bytes = encoded(DType::F32, &numbers()).data.to_vec();
        for late in [1, 4, 24, 32, 100] {
            let mut shifted = bytes.clone();
            shifted.copy_within(late.., 0);
            let (whole, shifted) = (tensor(DType::F32, bytes.clone()), tensor(DType::F32, shifted));
            let bytes = late as i64;
            assert_eq!(Cause::between(&whole, &shifted), Some(Cause::Shifted { bytes }));
            assert_eq!(Cause::between(&shifted, &whole), Some(Cause::Shifted { bytes: -bytes }));
        }
    }

    #[test]
    fn a_rounding_to_another_dtype_is_named_as_such() {
        let found = compare_values(&encoded(DType::F32, &numbers()), &encoded(DType::BF16, &numbers()));
        assert_eq!(found.cause, Some(Cause::Encoded { a: DType::F32, b: DType::BF16 }));
    }
}
