//! A trained network that is part of the program.

use std::sync::OnceLock;

use rten::Model;
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

use crate::deid::text::TextError;

pub struct Network {
    graph: &'static [u8],
    loaded: OnceLock<Result<Model, String>>,
}

impl Network {
    pub const fn new(graph: &'static [u8]) -> Network {
        Network { graph, loaded: OnceLock::new() }
    }

    /// What it answers to one picture.
    ///
    /// - `planes`: blue, green, red, from -1 to 1, each row by row.
    ///
    /// # Errors
    /// [`TextError::Model`]: also when a number of the answer is none.
    pub fn answer(
        &self,
        planes: Vec<f32>,
        width: usize,
        height: usize,
    ) -> Result<Vec<f32>, TextError> {
        let broken = |error: &dyn std::fmt::Display| TextError::Model(error.to_string());
        let load = || Model::load_static_slice(self.graph).map_err(|error| error.to_string());
        let model = self.loaded.get_or_init(load).as_ref().map_err(|error| broken(error))?;
        let input = NdTensor::from_data([1, 3, height, width], planes);
        let (Some(&from), Some(&to)) = (model.input_ids().first(), model.output_ids().first())
        else {
            return Err(broken(&"no input or output"));
        };
        let results = model.run_n(vec![(from, input.view().into())], [to], None);
        let [result] = results.map_err(|error| broken(&error))?;
        let answer: rten_tensor::Tensor<f32> =
            result.try_into().map_err(|_| broken(&"the answer holds no numbers"))?;
        let answer: Vec<f32> = answer.iter().copied().collect();
        match answer.iter().all(|value| value.is_finite()) {
            true => Ok(answer),
            false => Err(broken(&"the answer is not made of numbers")),
        }
    }
}

/// An 8-bit picture of 1 or 3 samples as networks of this family see it.
pub fn planes(values: &[u8], samples: usize) -> Vec<f32> {
    let mut planes = Vec::with_capacity(3 * values.len() / samples);
    for channel in [2, 1, 0] {
        let plane = values.iter().skip(channel.min(samples - 1)).step_by(samples);
        planes.extend(plane.map(|value| f32::from(*value) / 127.5 - 1.0));
    }
    planes
}
