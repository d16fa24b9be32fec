//! The codecs against ggml's own results.
//!
//! `fixtures/quants/<type>_<n>_noim_{input,expected}.bin`: values and the blocks that ggml makes of them.
//! `fixtures/quants/decode_<type>.bin`: blocks and the values that gguf-py decodes; `encode_<type>.bin`: values and the
//! blocks that gguf-py makes of them. See `make_goldens.py` there.

use std::path::PathBuf;

use apr_tensor::codec::{EncodeError, decode, encode};
use apr_tensor::{DTYPES, DType};

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/quants").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / 4];
    decode(DType::F32, bytes, &mut values);
    values
}

#[test]
fn every_dtype_decodes_to_the_values_of_gguf_py() {
    for row in DTYPES.iter().filter(|row| row.dtype != DType::F32 && row.dtype.decodes()) {
        let golden = fixture(&format!("decode_{}.bin", row.name.to_lowercase()));
        let n_blocks = golden.len() / (row.block_bytes + 4 * row.block_elements);
        let (blocks, expected) = golden.split_at(n_blocks * row.block_bytes);
        let expected = floats(expected);
        assert!(n_blocks > 0 && expected.len() == n_blocks * row.block_elements, "{}", row.name);
        let mut values = vec![0.0; expected.len()];
        decode(row.dtype, blocks, &mut values);
        for (i, (value, expected)) in values.iter().zip(&expected).enumerate() {
            let equal = value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan();
            assert!(equal, "{} value {i}: {value:e} != {expected:e}", row.name);
        }
    }
}

/// A header may declare any bytes to be blocks of any dtype.
#[test]
fn every_dtype_decodes_any_bytes() {
    let mut state = 1u64;
    let mut bytes = vec![0; 420_000];
    for row in DTYPES.iter().filter(|row| row.dtype.decodes()) {
        bytes.fill_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let n_blocks = bytes.len() / row.block_bytes;
        let mut values = vec![0.0; n_blocks * row.block_elements];
        for fill in [None, Some(0), Some(0xff), Some(0x7f), Some(0x80)] {
            if let Some(byte) = fill {
                bytes.fill(byte);
            }
            decode(row.dtype, &bytes[..n_blocks * row.block_bytes], &mut values);
        }
    }
}

#[test]
fn encoding_gives_the_bytes_of_ggml() {
    for (dtype, name) in [(DType::Q4_0, "q4_0_64"), (DType::Q5_0, "q5_0_64"), (DType::Q8_0, "q8_0_64")] {
        let mut blocks = Vec::new();
        encode(dtype, &floats(&fixture(&format!("{name}_noim_input.bin"))), &mut blocks).unwrap();
        assert_eq!(blocks, fixture(&format!("{name}_noim_expected.bin")), "{dtype}");
    }
}

#[test]
fn encoding_gives_the_bytes_of_gguf_py() {
    for dtype in [DType::Q4_1, DType::Q5_1] {
        let golden = fixture(&format!("encode_{}.bin", dtype.name().to_lowercase()));
        let block_bytes = dtype.info().block_bytes;
        let n_blocks = golden.len() / (4 * 32 + block_bytes);
        let (values, expected) = golden.split_at(n_blocks * 4 * 32);
        for (values, expected) in values.chunks(4 * 32).zip(expected.chunks(block_bytes)) {
            let mut block = Vec::new();
            encode(dtype, &floats(values), &mut block).unwrap();
            assert_eq!(block, expected, "{dtype} of {:?}", floats(values));
        }
    }
}

/// The K-quant blocks that ggml made come back to the values they were made of, within the step of their codes.
#[test]
fn ggml_k_quant_blocks_decode_close_to_what_was_encoded() {
    for (dtype, name, n_steps) in
        [(DType::Q4K, "q4_k_512", 15.0), (DType::Q5K, "q5_k_512", 31.0), (DType::Q6K, "q6_k_512", 63.0)]
    {
        let input = floats(&fixture(&format!("{name}_noim_input.bin")));
        let mut values = vec![0.0; input.len()];
        decode(dtype, &fixture(&format!("{name}_noim_expected.bin")), &mut values);
        for (input, values) in input.chunks(32).zip(values.chunks(32)) {
            let max = input.iter().fold(0.0, |max: f32, x| max.max(*x));
            let min = input.iter().fold(0.0, |min: f32, x| min.min(*x));
            // A group's scale is itself rounded to six bits or more, hence a step and not half of one.
            let step = (max - min).max(max.max(-min) * 2.0 * f32::from(u8::from(dtype == DType::Q6K))) / n_steps;
            for (input, value) in input.iter().zip(values) {
                assert!((input - value).abs() <= step, "{dtype}: {input} came back as {value}, step {step}");
            }
        }
    }
}

#[test]
fn floats_round_to_nearest_even() {
    let check = |dtype, value: f32, expected: u16| {
        let mut bytes = Vec::new();
        encode(dtype, &[value], &mut bytes).unwrap();
        assert_eq!(bytes, expected.to_le_bytes(), "{dtype} of {value:e}");
    };
    check(DType::F16, 1.0 + 1.0 / 2048.0, 0x3c00);
    check(DType::F16, 1.0 + 3.0 / 2048.0, 0x3c02);
    check(DType::F16, 65519.0, 0x7bff);
    check(DType::F16, 65520.0, 0x7c00);
    check(DType::F16, 2f32.powi(-25), 0x0000);
    check(DType::F16, -3.0 * 2f32.powi(-25), 0x8002);
    check(DType::BF16, 1.0 + 1.0 / 256.0, 0x3f80);
    check(DType::BF16, 1.0 + 3.0 / 256.0, 0x3f82);
    check(DType::BF16, f32::MAX, 0x7f80);
    check(DType::BF16, f32::NEG_INFINITY, 0xff80);
    for dtype in [DType::F16, DType::BF16] {
        let (mut bytes, mut value) = (Vec::new(), [0.0]);
        encode(dtype, &[f32::from_bits(0x7f80_0001)], &mut bytes).unwrap();
        decode(dtype, &bytes, &mut value);
        assert!(value[0].is_nan(), "{dtype}: a NaN whose payload is cut off stays a NaN");
    }
}

#[test]
fn every_value_of_a_float_dtype_survives_a_round_trip() {
    for dtype in [DType::F16, DType::BF16] {
        let stored: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut values = vec![0.0; 1 << 16];
        decode(dtype, &stored, &mut values);
        let mut again = Vec::new();
        encode(dtype, &values, &mut again).unwrap();
        let mut values_again = vec![0.0; 1 << 16];
        decode(dtype, &again, &mut values_again);
        for (value, again) in values.iter().zip(&values_again) {
            // Encoding makes a signalling NaN quiet.
            assert!(value.to_bits() == again.to_bits() || value.is_nan() && again.is_nan(), "{dtype} {value:e}");
        }
    }
}

#[test]
fn what_cannot_be_encoded_is_an_error_that_says_why() {
    let check = |dtype, values: &[f32], expected: EncodeError, message: &str| {
        let mut bytes = vec![7];
        let error = encode(dtype, values, &mut bytes).unwrap_err();
        assert_eq!(bytes, [7], "nothing is left behind");
        if let EncodeError::NotFinite { index, value, .. } = error {
            // NaN is not equal to itself.
            assert!(!value.is_finite() && matches!(expected, EncodeError::NotFinite { index: i, .. } if i == index));
        } else {
            assert_eq!(error, expected);
        }
        assert!(error.to_string().contains(message), "{error}");
    };
    let with = |index: usize, value: f32| -> Vec<f32> {
        let mut values = vec![1.0; 256];
        values[index] = value;
        values
    };
    for row in DTYPES.iter().filter(|row| row.encodes && row.dtype.is_quantized()) {
        let (dtype, block_elements) = (row.dtype, row.block_elements);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let expected = EncodeError::NotFinite { dtype, index: 37, value };
            check(dtype, &with(37, value), expected, "value 37 is");
        }
        let (index, value) = (40, -3e38);
        check(dtype, &with(index, value), EncodeError::ScaleOverflow { dtype, index, value }, "too large");
        let n_elements = block_elements + 1;
        let partial = EncodeError::PartialBlock { dtype, n_elements, block_elements };
        check(dtype, &vec![0.0; n_elements], partial, "whole");
    }
    for dtype in [DType::IQ1S, DType::TQ2_0, DType::MXFP4] {
        let message = format!("this version decodes {dtype} but does not encode it");
        check(dtype, &[0.0; 256], EncodeError::NotImplemented { dtype }, &message);
    }
}

#[test]
fn the_table_says_which_dtypes_encode() {
    for row in DTYPES {
        let result = encode(row.dtype, &vec![0.5; row.block_elements], &mut Vec::new());
        assert_eq!(result.is_ok(), row.encodes, "{}", row.name);
    }
}

/// A block of zeros has no scale; one of the smallest numbers has a scale whose inverse overflows.
#[test]
fn blocks_without_a_usable_scale_encode_to_zeros() {
    for dtype in DTYPES.iter().filter(|row| row.encodes && row.dtype.is_quantized()).map(|row| row.dtype) {
        for value in [0.0, f32::from_bits(1), -f32::MIN_POSITIVE] {
            let (mut bytes, mut values) = (Vec::new(), [1.0; 256]);
            encode(dtype, &[value; 256], &mut bytes).unwrap();
            decode(dtype, &bytes, &mut values);
            // Where a block has a minimum, it is the nearest f16.
            assert!(values.iter().all(|&v| v == 0.0), "{dtype} of {value:e}: {values:?}");
        }
    }
}
