//! The natural logarithm of a float32 as ONNX Runtime's node `Log` gives it on a CPU, to the bit.
//!
//! That node uses Eigen (`plog_impl_float` of its generic packet functions): the number is `m 2^e` with m between sqrt(1/2) and sqrt(2), and
//! `ln m` a rational function of `m - 1`; products and sums are rounded each. It is off by up to 3 units in the last place, and a network
//! can magnify such a difference twentyfold; so what is taken out of a graph must be off in the same way. (The last one to three values
//! of a tensor go to the C library there instead; they differ by that unit.)

/// Coefficients of the numerator divided by `m - 1`, and of the denominator, the highest power first.
const NUMERATOR: [f32; 3] = [0.182_562_96, 1.0, 1.0];
const DENOMINATOR: [f32; 4] = [0.049_616_247, 0.599_232_5, 1.5, 1.0];

/// The natural logarithm.
pub(super) fn ln(x: f32) -> f32 {
    // What is not positive, not finite, or has no first digit.
    if !(x.is_normal() && x > 0.0) {
        return x.ln();
    }
    let (exponent, digits) = (x.to_bits() >> 23, x.to_bits() & 0x007f_ffff);
    // Between 1/2 and 1.
    let (mut e, mut m) = (exponent as f32 - 126.0, f32::from_bits(digits | 0x3f00_0000));
    if m < std::f32::consts::FRAC_1_SQRT_2 {
        (e, m) = (e - 1.0, m - 1.0 + m);
    } else {
        m -= 1.0;
    }
    let of = |coefficients: &[f32]| coefficients.iter().skip(1).fold(coefficients[0], |sum, c| sum * m + c);
    e * std::f32::consts::LN_2 + m * of(&NUMERATOR) / of(&DENOMINATOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::python;
    use serde_json::json;

    /// Beside the node itself: sixteen at a time, so that none of them is one of the last.
    #[test]
    fn it_is_that_of_the_node() {
        let mut bits: Vec<u32> = (0..200_000_u32).map(|i| 0x0080_0000 + i.wrapping_mul(10_613) % 0x7f00_0000).collect();
        bits.extend((0..50_000).map(|i| (1.0 + i as f32 * 1e-5).to_bits()));
        bits.truncate(bits.len() / 16 * 16);
        let script = "
import onnx, onnxruntime
from onnx import helper as h, TensorProto as t
of = lambda name: h.make_tensor_value_info(name, t.FLOAT, ['n'])
graph = h.make_graph([h.make_node('Log', ['x'], ['y'])], 'g', [of('x')], [of('y')])
model = h.make_model(graph, opset_imports=[h.make_opsetid('', 17)], ir_version=8)
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider']).run
answer(run(None, {'x': np.array(given, dtype=np.uint32).view(np.float32)})[0].view(np.uint32).tolist())
";
        let said = python(script, &json!(bits));
        let theirs: Vec<u32> = said.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let other = bits.iter().zip(&theirs).filter(|(x, y)| ln(f32::from_bits(**x)).to_bits() != **y).count();
        assert_eq!(other, 0, "of {}", bits.len());
    }

    #[test]
    fn what_has_no_logarithm_is_as_everywhere() {
        assert_eq!([0.0, -0.0, f32::INFINITY].map(ln), [f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY]);
        assert!(ln(-1.0).is_nan() && ln(f32::NAN).is_nan());
        assert!((ln(f32::from_bits(1)) + 103.278_93).abs() < 1e-4);
    }
}
