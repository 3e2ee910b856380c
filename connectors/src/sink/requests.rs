//! Label requests as JSON, with what an annotation tool needs of a sample.

use perennial_operators::algorithms::unseen::LabelRequest;
use perennial_operators::flow::predicted_class;
use serde_json::{Map, Value, json};

use crate::schema::{Feature, Schema};

/// A renderer of label requests.
#[derive(Clone, Debug)]
pub struct RequestRenderer {
    features: Vec<Feature>,
    classes: Vec<String>,
}

impl RequestRenderer {
    /// A renderer for samples of `schema`.
    pub fn new(schema: &Schema) -> Self {
        let label = schema.label.as_ref();
        RequestRenderer {
            features: schema.features.clone(),
            classes: label.map(|label| label.classes.clone()).unwrap_or_default(),
        }
    }

    /// A request as a JSON object.
    pub fn object(&self, request: &LabelRequest) -> Value {
        let features = self.features.iter().zip(&request.features);
        let features: Map<String, Value> = features
            .map(|(feature, value)| (feature.column().to_string(), cell(feature, *value)))
            .collect();
        json!({
            "id": request.id,
            "time": jiff::Timestamp::from_microsecond(request.time).ok().map(|time| time.to_string()),
            "site": request.site,
            "task": request.task,
            "unseen": request.unseen,
            "uncertainty": request.uncertainty,
            "prediction": self.prediction(request),
            "features": features,
        })
    }

    /// The prediction of the sample: a class, or a number.
    pub fn prediction(&self, request: &LabelRequest) -> Value {
        if self.classes.is_empty() {
            return json!(request.answer.first());
        }
        let class = predicted_class(ndarray::ArrayView1::from(&request.answer));
        json!(self.classes.get(class))
    }
}

/// The value of a feature as in its source; null if missing.
fn cell(feature: &Feature, value: f32) -> Value {
    match feature {
        Feature::Categorical(categorical) if !value.is_nan() => {
            json!(categorical.values.get(value as usize))
        }
        _ => json!(value),
    }
}
