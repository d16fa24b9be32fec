//! Encoding by search: never further from the values than ggml, and never bytes that decode to anything but numbers.
//!
//! `fixtures/quants/errors_values.bin` and `errors.txt`: values of several kinds and the error of ggml's encoding of them,
//! with and without importance. See `make_errors.py` there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use apr_tensor::codec::{EncodeError, decode, encode, encode_weighted};
use apr_tensor::{DTYPES, DType, DTypeInfo};

const COLUMNS: usize = 512;
const VALUES: usize = 2 * COLUMNS;

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/quants").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn encodable() -> impl Iterator<Item = &'static DTypeInfo> {
    DTYPES.iter().filter(|row| row.encodes && row.dtype.is_quantized())
}

struct Case {
    kind: String,
    dtype: DType,
    values: Vec<f32>,
    importance: Option<Vec<f32>>,
    error_of_ggml: f64,
}

fn cases() -> Vec<Case> {
    let bytes = fixture("errors_values.bin");
    let mut stored = vec![0.0; bytes.len() / 4];
    decode(DType::F32, &bytes, &mut stored);
    let (importance, values) = stored.split_at(COLUMNS);
    let mut kinds: Vec<String> = Vec::new();
    let text = String::from_utf8(fixture("errors.txt")).unwrap();
    let cases: Vec<Case> = text
        .lines()
        .map(|line| {
            let [kind, dtype, label, error] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            if kinds.last().is_none_or(|last| last != kind) {
                kinds.push(kind.to_owned());
            }
            let start = (kinds.len() - 1) * VALUES;
            Case {
                kind: kind.to_owned(),
                dtype: DType::from_name(dtype).unwrap(),
                values: values[start..start + VALUES].to_vec(),
                importance: (label == "weighted").then(|| importance.to_vec()),
                error_of_ggml: error.parse().unwrap(),
            }
        })
        .collect();
    assert_eq!(values.len(), kinds.len() * VALUES);
    assert_eq!(cases.len(), kinds.len() * 2 * encodable().count());
    cases
}

fn decoded(dtype: DType, values: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let (mut bytes, mut decoded) = (Vec::new(), vec![f32::NAN; values.len()]);
    encode_weighted(dtype, values, importance, &mut bytes).unwrap_or_else(|error| panic!("{dtype}: {error}"));
    decode(dtype, &bytes, &mut decoded);
    assert!(decoded.iter().all(|value| value.is_finite()), "{dtype}: {decoded:?}");
    decoded
}

fn error(a: &[f32], b: &[f32], importance: Option<&[f32]>) -> f64 {
    let weight = |i: usize| importance.map_or(1.0, |w| f64::from(w[i % COLUMNS]));
    a.iter().zip(b).enumerate().map(|(i, (a, b))| weight(i) * (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// With importance, ggml weighs large values more on top, and the search less those of no importance: on a kind that suits
/// ggml's choice it may be a little ahead.
#[test]
fn the_error_is_at_most_that_of_ggml() {
    const AHEAD_WITH_IMPORTANCE: f64 = 1.05;
    let mut wrong = Vec::new();
    let mut ratios = BTreeMap::<(&str, bool), Vec<f64>>::new();
    for case in cases() {
        let importance = case.importance.as_deref();
        let ours = error(&case.values, &decoded(case.dtype, &case.values, importance), importance);
        let limit = if importance.is_some() { AHEAD_WITH_IMPORTANCE } else { 1.0 };
        // The text has ten digits.
        if ours > case.error_of_ggml * limit * (1.0 + 1e-9) {
            wrong.push(format!("{} {} {limit}: {ours:e} > {:e}", case.kind, case.dtype, case.error_of_ggml));
        }
        if case.error_of_ggml > 0.0 {
            ratios.entry((case.dtype.name(), importance.is_some())).or_default().push(ours / case.error_of_ggml);
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    for ((dtype, weighted), ratios) in ratios {
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        println!("{dtype} weighted {weighted}: {mean:.3} of ggml's squared error on average");
        assert!(
            mean < 0.97 || dtype == "Q8_0" || !weighted && dtype.len() == 4 && !dtype.ends_with('K'),
            "{dtype} {mean}"
        );
    }
}

/// What a block can hold it holds again, up to what rounding its scales again does.
#[test]
fn encoding_what_was_decoded_adds_next_to_no_error() {
    for case in cases() {
        let importance = case.importance.as_deref();
        let once = decoded(case.dtype, &case.values, importance);
        let twice = decoded(case.dtype, &once, importance);
        let (first, second) = (error(&case.values, &once, importance), error(&once, &twice, importance));
        let squares = error(&once, &vec![0.0; once.len()], importance);
        assert!(
            second <= first.max(1e-6 * squares),
            "{} {} {}: {second:e} after {first:e}",
            case.kind,
            case.dtype,
            importance.is_some()
        );
    }
}

/// Numbers of every size, so that sums and scales meet the ends of their ranges.
#[test]
fn any_finite_values_decode_to_finite_values_or_are_refused_by_index() {
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    let (mut n_encoded, mut n_refused) = (0, 0);
    for row in encodable() {
        for round in 0..200 {
            let mut values = vec![0.0f32; 512];
            for value in &mut values {
                // Half of the rounds: any exponent that f32 has; otherwise a few that are near each other.
                let exponent = if round % 2 == 0 { random() % 255 } else { (round + random() % 6).min(254) };
                *value = f32::from_bits(((random() % 2) << 31) | (exponent << 23) | (random() % (1 << 23)));
            }
            let importance: Vec<f32> = (0..256).map(|_| f32::from_bits((random() % 0x7f80) << 16)).collect();
            for importance in [None, Some(importance.as_slice()), Some([0.0; 256].as_slice())] {
                let mut bytes = Vec::new();
                match encode_weighted(row.dtype, &values, importance, &mut bytes) {
                    Ok(()) => {
                        n_encoded += 1;
                        assert_eq!(Some(bytes.len()), row.dtype.bytes_for(values.len()));
                        let mut decoded = vec![f32::NAN; values.len()];
                        decode(row.dtype, &bytes, &mut decoded);
                        assert!(decoded.iter().all(|value| value.is_finite()), "{} {decoded:?}", row.name);
                    }
                    Err(EncodeError::ScaleOverflow { index, value, .. }) => {
                        n_refused += 1;
                        assert!(values[index] == value && value.abs() > 6e4, "{} {index} {value}", row.name);
                    }
                    Err(error) => panic!("{}: {error}", row.name),
                }
            }
        }
    }
    assert!(n_encoded > 1000 && n_refused > 1000, "{n_encoded} {n_refused}");
}

/// A block's bytes depend on its own values and importance only: rows may be encoded in any portions.
#[test]
fn rows_encode_alone_as_they_do_together() {
    for case in cases().iter().filter(|case| ["heavy-tailed", "uneven-groups"].contains(&case.kind.as_str())) {
        let importance = case.importance.as_deref();
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        encode_weighted(case.dtype, &case.values, importance, &mut together).unwrap();
        for row in case.values.chunks(COLUMNS) {
            encode_weighted(case.dtype, row, importance, &mut alone).unwrap();
        }
        assert_eq!(together, alone, "{}", case.dtype);
        if importance.is_none() {
            alone.clear();
            case.values.chunks(256).for_each(|block| encode(case.dtype, block, &mut alone).unwrap());
            assert_eq!(together, alone, "{}", case.dtype);
        }
    }
}

#[test]
fn importance_that_is_no_weight_is_refused_by_column() {
    for value in [-1.0, f32::NAN, f32::INFINITY] {
        let mut importance = [1.0; 256];
        importance[77] = value;
        let mut bytes = vec![7];
        let error = encode_weighted(DType::Q4K, &[0.5; 512], Some(&importance), &mut bytes).unwrap_err();
        assert!(matches!(error, EncodeError::Importance { column: 77, .. }), "{error}");
        assert!(error.to_string().contains("column 77"), "{error}");
        assert_eq!(bytes, [7], "nothing is left behind");
    }
}
