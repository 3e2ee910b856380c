//! What the label is: one of some classes, or a number.

use perennial_connectors::source::ColumnProfile;

/// Bound on the whole numbers that are taken for classes.
const MOST_NUMBERS: usize = 20;
/// Bound on the texts that are taken for classes.
const MOST_CLASSES: usize = 200;

/// The kind of a label.
pub(super) enum LabelDraft {
    /// One of these classes.
    Classes(Vec<String>),
    /// A number.
    Number,
}

impl LabelDraft {
    /// The kind of the values of a column.
    ///
    /// # Errors
    /// The column can be no label: the reason.
    pub(super) fn of(column: &ColumnProfile) -> Result<LabelDraft, String> {
        let count = column.values.len();
        if column.is_numeric() {
            let is_whole = column.whole == column.filled;
            let are_classes = is_whole && !column.has_more && (2..=MOST_NUMBERS).contains(&count);
            return Ok(if are_classes {
                LabelDraft::Classes(sorted(column))
            } else {
                LabelDraft::Number
            });
        }
        if column.has_more || count > MOST_CLASSES {
            return Err(format!("it has more than {MOST_CLASSES} different texts"));
        }
        match count {
            0 => Err("it is always empty".to_string()),
            1 => Err("it always has the same value, so there is nothing to predict".to_string()),
            _ => Ok(LabelDraft::Classes(sorted(column))),
        }
    }
}

/// The values of a column: numbers by size, texts by letters.
pub(super) fn sorted(column: &ColumnProfile) -> Vec<String> {
    let mut values: Vec<String> = column.values.keys().cloned().collect();
    let number = |text: &String| text.parse::<f64>().unwrap_or(f64::INFINITY);
    values.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b)));
    values
}
