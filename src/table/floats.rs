//! Floats of a checkpoint as JSON: infinities and NaN by the names that Delta gives them.
//!
//! JSON has no such numbers, and the writer of arrays makes nulls of them. A least value of NaN hides every row from an engine that reads
//! the array; as a null it would be no statement at all to whoever compares it.

use std::io::Write as _;

use arrow::array::{Array, ArrowPrimitiveType, AsArray as _, PrimitiveArray};
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder};

/// Writes floats so that none of them becomes a null.
#[derive(Debug)]
pub(super) struct NamedFloats;

impl EncoderFactory for NamedFloats {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        Ok(match array.data_type() {
            DataType::Float16 => Some(encoder(array.as_primitive::<Float16Type>(), f64::from)),
            DataType::Float32 => Some(encoder(array.as_primitive::<Float32Type>(), f64::from)),
            DataType::Float64 => Some(encoder(array.as_primitive::<Float64Type>(), |value| value)),
            _ => None,
        })
    }
}

fn encoder<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, wide: fn(T::Native) -> f64) -> NullableEncoder<'_> {
    NullableEncoder::new(Box::new(Floats { array, wide }), array.nulls().cloned())
}

struct Floats<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    wide: fn(T::Native) -> f64,
}

impl<T: ArrowPrimitiveType> Encoder for Floats<'_, T> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let value = self.array.value(index);
        // Writing to memory cannot fail.
        let _ = match name((self.wide)(value)) {
            Some(name) => write!(out, "\"{name}\""),
            // The shortest text that reads back as the same number of this width; whole ones have a point, too.
            None => write!(out, "{value:?}"),
        };
    }
}

fn name(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        // Of the two that an order of all floats knows, one is below everything.
        Some(if value.is_sign_negative() { "-NaN" } else { "NaN" })
    } else if value.is_infinite() {
        Some(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, Float64Array, RecordBatch};
    use arrow::json::writer::{LineDelimited, WriterBuilder};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn no_float_becomes_a_null_and_finite_ones_keep_their_value() {
        let doubles = [Some(0.1), Some(-0.0), Some(1e300), Some(5e-324), Some(f64::NAN), Some(-f64::NAN), Some(f64::INFINITY), None];
        let singles = [Some(0.1), Some(3.0), Some(f32::MAX), Some(f32::NEG_INFINITY), None, None, None, Some(16_777_217.0)];
        let columns =
            [("d", Arc::new(Float64Array::from(doubles.to_vec())) as ArrayRef), ("s", Arc::new(Float32Array::from(singles.to_vec())))];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
        let mut out = Vec::new();
        let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(NamedFloats));
        let mut writer = builder.build::<_, LineDelimited>(&mut out);
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let lines: Vec<Value> =
            out.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| super::super::json::parse(l).unwrap()).collect();
        let doubles: Vec<&Value> = lines.iter().map(|line| &line["d"]).collect();
        assert_eq!(
            doubles[..4].iter().map(|v| v.as_f64().unwrap().to_bits()).collect::<Vec<_>>(),
            [0.1, -0.0, 1e300, 5e-324].map(f64::to_bits)
        );
        assert_eq!(doubles[4..], [&json!("NaN"), &json!("-NaN"), &json!("Infinity"), &Value::Null]);
        let singles: Vec<&Value> = lines.iter().map(|line| &line["s"]).collect();
        assert_eq!(singles[..4], [&json!(0.1), &json!(3.0), &json!(3.402_823_5e38), &json!("-Infinity")]);
        assert_eq!(singles[7], &json!(16_777_216.0));
    }
}
