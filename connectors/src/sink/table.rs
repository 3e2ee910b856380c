//! Predictions as a table for a Parquet file.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use perennial_operators::flow::{Predicted, predicted_class};

use super::Layout;
use super::layout::{Verdict, group_texts, is_deferred, site};

/// A table under construction.
#[derive(Default)]
struct Columns {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Columns {
    fn add(&mut self, name: &str, column: impl Array + 'static, nullable: bool) {
        let kind = column.data_type().clone();
        self.fields.push(Field::new(name, kind, nullable));
        self.columns.push(Arc::new(column));
    }

    fn texts(&mut self, name: &str, texts: impl Iterator<Item = String>) {
        self.add(name, StringArray::from_iter_values(texts), false);
    }
}

/// The predictions of a batch as a table.
pub(super) fn table(layout: &Layout, predicted: &Predicted) -> Option<RecordBatch> {
    let batch = &predicted.allocated.batch;
    let groups = group_texts(predicted);
    let rows = || 0..batch.len();
    let group = |row: usize| &groups[predicted.allocated.group_of[row] as usize];
    let mut columns = Columns::default();
    columns.texts("id", rows().map(|row| batch.ids.get(row).to_string()));
    let times = TimestampMicrosecondArray::from(batch.times.clone()).with_timezone("UTC");
    columns.add("time", times, false);
    columns.texts("site", rows().map(|row| site(batch, row).to_string()));
    columns.texts("task", rows().map(|row| group(row).task.clone()));
    columns.texts("model", rows().map(|row| group(row).model.clone()));
    add_predictions(&mut columns, layout, predicted)?;
    if layout.recognizes {
        add_verdicts(&mut columns, predicted);
    }
    let epoch = predicted.allocated.header.epoch.0;
    columns.add("epoch", UInt64Array::from(vec![epoch; batch.len()]), false);
    RecordBatch::try_new(Arc::new(Schema::new(columns.fields)), columns.columns).ok()
}

/// Adds predictions. Only a layout that recognizes unseen samples can have none in a row.
fn add_predictions(columns: &mut Columns, layout: &Layout, predicted: &Predicted) -> Option<()> {
    let nullable = layout.recognizes;
    let given: Vec<bool> = (0..predicted.allocated.batch.len())
        .map(|row| !is_deferred(predicted, row))
        .collect();
    let values: Float32Array = predicted.probabilities.iter().copied().collect();
    if layout.classes.is_empty() {
        let numbers: Float32Array = values
            .iter()
            .zip(&given)
            .map(|(value, given)| value.filter(|_| *given))
            .collect();
        columns.add("prediction", numbers, nullable);
        return Some(());
    }
    let class = |row: usize| &*layout.classes[predicted_class(predicted.probabilities.row(row))];
    let classes: StringArray = given
        .iter()
        .enumerate()
        .map(|(row, given)| given.then(|| class(row)))
        .collect();
    columns.add("prediction", classes, nullable);
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let nulls = nullable.then(|| NullBuffer::from(given));
    let width = layout.classes.len() as i32;
    let lists = FixedSizeListArray::try_new(item, width, Arc::new(values), nulls).ok()?;
    columns.add("probabilities", lists, nullable);
    Some(())
}

/// Adds the recognition of samples.
fn add_verdicts(columns: &mut Columns, predicted: &Predicted) {
    let verdicts: Vec<Verdict<'_>> = (0..predicted.allocated.batch.len())
        .map(|row| Verdict::of(predicted, row))
        .collect();
    let unseen: Vec<bool> = verdicts.iter().map(|verdict| verdict.unseen).collect();
    columns.add("unseen", BooleanArray::from(unseen), false);
    let p: Float32Array = verdicts.iter().map(|verdict| verdict.p).collect();
    columns.add("p", p, true);
    let mut lists = [
        ListBuilder::new(StringBuilder::new()),
        ListBuilder::new(StringBuilder::new()),
    ];
    for verdict in &verdicts {
        for (list, texts) in lists.iter_mut().zip([&verdict.why, &verdict.nearest]) {
            list.append_value(texts.iter().map(Some));
        }
    }
    for (name, mut list) in ["why", "nearest"].into_iter().zip(lists) {
        columns.add(name, list.finish(), false);
    }
}
