//! Root mean squared error and time of encoding a file of little-endian `f32` values.
//!
//!     quantise_error VALUES COLUMNS [IMPORTANCE]

use std::time::Instant;

use apr_tensor::codec::{decode, encode_weighted};
use apr_tensor::{DTYPES, DType};

fn floats(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("a file of values");
    let mut values = vec![0.0; bytes.len() / 4];
    decode(DType::F32, &bytes, &mut values);
    values
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [values, columns, rest @ ..] = arguments.as_slice() else { panic!("VALUES COLUMNS [IMPORTANCE]") };
    let (values, columns) = (floats(values), columns.parse::<usize>().expect("a number of columns"));
    let importance = rest.first().map(|path| floats(path));
    for row in DTYPES.iter().filter(|row| row.encodes && row.dtype.is_quantized()) {
        let mut bytes = Vec::new();
        let started = Instant::now();
        encode_weighted(row.dtype, &values, importance.as_deref(), &mut bytes).expect("values that can be encoded");
        let elapsed_ns = started.elapsed().as_nanos() as f64;
        let mut decoded = vec![0.0; values.len()];
        decode(row.dtype, &bytes, &mut decoded);
        let (mut squares, mut weighted, mut weights) = (0.0, 0.0, 0.0);
        for (i, (a, b)) in values.iter().zip(&decoded).enumerate() {
            let square = (f64::from(*a) - f64::from(*b)).powi(2);
            let weight = importance.as_ref().map_or(1.0, |w| f64::from(w[i % columns]));
            squares += square;
            weighted += weight * square;
            weights += weight;
        }
        println!(
            "{:7} rmse {:.6e} wrmse {:.6e} {:.1} ns",
            row.name,
            (squares / values.len() as f64).sqrt(),
            (weighted / weights).sqrt(),
            elapsed_ns / values.len() as f64
        );
    }
}
