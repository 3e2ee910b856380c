//! Parquet: batches of a table, copied cell by cell into the row.

mod pages;

use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Field, Float64Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType, UInt64Type,
};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;

use self::pages::CheckedRowGroups;
use super::guarded::guarded;
use super::{CONTENT, Next, Records};
use crate::format::{Row, Value};
use crate::source::error::SourceError;

/// Rows decoded at a time.
const ROWS: usize = 8192;

/// The rows of a Parquet file.
pub(super) struct ParquetRecords {
    reader: ParquetRecordBatchReader,
    columns: Vec<String>,
    /// The wanted columns of the current batch, in the order of a row's cells.
    cells: Vec<(CellKind, ArrayRef)>,
    rows: usize,
    next: usize,
    /// Rows returned so far.
    number: u64,
    total: u64,
}

/// How the cells of a column are read, after a cast to the widest type of their kind.
#[derive(Clone, Copy)]
enum CellKind {
    Text,
    Bytes,
    Bool,
    Signed,
    Unsigned,
    Float,
    /// Digits after the point; at most 38 digits in all.
    Decimal(u32),
    /// The same with up to 76 digits.
    LongDecimal(u32),
    Time,
    Missing,
}

impl ParquetRecords {
    /// Reads the file's footer and looks up `columns`.
    pub(super) fn open(
        file: File,
        path: &str,
        columns: &[String],
    ) -> Result<ParquetRecords, SourceError> {
        let open = |reason: String| SourceError::Open {
            path: path.into(),
            reason,
        };
        let metadata = guarded(|| metadata(&file)).map_err(open)?;
        let schema = metadata.schema();
        let mut roots = Vec::new();
        let mut missing = Vec::new();
        for column in columns {
            match schema.column_with_name(column) {
                Some((root, field)) if target(field.data_type()).is_some() => roots.push(root),
                Some((_, field)) => {
                    let reason =
                        format!("its column {column:?} has the type {}", field.data_type());
                    return Err(open(
                        reason + ", which is neither a text, a number nor a time",
                    ));
                }
                None => missing.push(column.as_str()),
            }
        }
        if !missing.is_empty() {
            let found: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
            return Err(SourceError::columns(path, &missing, &found));
        }
        let total = metadata.metadata().file_metadata().num_rows().max(0) as u64;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let reader = guarded(|| batches(file, &metadata, mask)).map_err(open)?;
        let columns = columns.to_vec();
        Ok(ParquetRecords {
            reader,
            columns,
            cells: Vec::new(),
            rows: 0,
            next: 0,
            number: 0,
            total,
        })
    }

    /// Reads the next batch if the current one is used up; `false` at the end.
    fn refill(&mut self) -> Result<bool, String> {
        while self.next == self.rows {
            let Some(batch) = guarded(|| self.reader.next().transpose())? else {
                return Ok(false);
            };
            self.cells = guarded(|| self.cast(&batch))?;
            self.rows = batch.num_rows();
            self.next = 0;
        }
        Ok(true)
    }

    fn cast(&self, batch: &RecordBatch) -> Result<Vec<(CellKind, ArrayRef)>, ArrowError> {
        let mut cells = Vec::with_capacity(self.columns.len());
        for name in &self.columns {
            let column = batch.column(batch.schema_ref().index_of(name)?);
            let (kind, to) =
                target(column.data_type()).unwrap_or((CellKind::Missing, DataType::Null));
            let column = match kind {
                CellKind::Missing => column.clone(),
                _ => cast(column, &to)?,
            };
            cells.push((kind, column));
        }
        Ok(cells)
    }

    fn fill(&self, at: usize, row: &mut Row) -> Result<(), String> {
        row.clear();
        for (cell, (kind, column)) in self.cells.iter().enumerate() {
            if column.is_null(at) {
                continue;
            }
            match kind {
                CellKind::Missing => {}
                CellKind::Text => row.set_text(cell, column.as_string::<i32>().value(at)),
                CellKind::Bytes => match std::str::from_utf8(column.as_binary::<i32>().value(at)) {
                    Ok(text) => row.set_text(cell, text),
                    Err(_) => {
                        return Err(format!(
                            "column {:?} is not valid UTF-8",
                            self.columns[cell]
                        ));
                    }
                },
                CellKind::Bool => row.set_bool(cell, column.as_boolean().value(at)),
                CellKind::Signed => {
                    row.set_integer(cell, column.as_primitive::<Int64Type>().value(at).into())
                }
                CellKind::Unsigned => {
                    row.set_integer(cell, column.as_primitive::<UInt64Type>().value(at).into())
                }
                CellKind::Float => {
                    row.set_number(cell, column.as_primitive::<Float64Type>().value(at))
                }
                CellKind::Decimal(scale) => {
                    let value = column.as_primitive::<Decimal128Type>().value(at);
                    // A scale of at most 38 always fits.
                    row.set_decimal(cell, value, *scale).unwrap_or_default();
                }
                CellKind::LongDecimal(scale) => {
                    let column = column.as_primitive::<Decimal256Type>();
                    let short = column.value(at).to_i128();
                    let set = short.and_then(|value| row.set_decimal(cell, value, *scale));
                    set.unwrap_or_else(|| row.set_text(cell, &column.value_as_string(at)));
                }
                CellKind::Time => row.set_time(
                    cell,
                    column.as_primitive::<TimestampMicrosecondType>().value(at),
                ),
            }
        }
        Ok(())
    }
}

impl Records for ParquetRecords {
    fn next(&mut self, row: &mut Row) -> Result<Next, String> {
        if !self.refill()? {
            return Ok(Next::End);
        }
        let at = self.next;
        self.next += 1;
        self.number += 1;
        Ok(self.fill(at, row).map_or_else(Next::Bad, |()| Next::Record))
    }

    fn number(&self) -> u64 {
        self.number
    }

    /// The wanted cells as JSON, since a row of a table has no text.
    fn content(&self, row: &Row) -> String {
        let mut scratch = String::new();
        let mut object = serde_json::Map::new();
        for (cell, name) in self.columns.iter().enumerate() {
            let value = match row.get(cell) {
                Value::Missing => continue,
                Value::Number(number) => number.into(),
                value => value.text(&mut scratch).into(),
            };
            object.insert(name.clone(), value);
        }
        let mut content = serde_json::Value::Object(object).to_string();
        content.truncate(content.floor_char_boundary(CONTENT));
        content
    }

    fn count(&mut self) -> Result<u64, String> {
        Ok(self.total)
    }
}

/// Names of the columns whose cells are single values.
pub(super) fn columns(file: &File) -> Result<Vec<String>, String> {
    let metadata = guarded(|| metadata(file))?;
    let fields = metadata.schema().fields().iter();
    let single = fields.filter(|field| target(field.data_type()).is_some());
    Ok(single.map(|field| field.name().clone()).collect())
}

/// The batches of a file's columns.
fn batches(
    file: File,
    metadata: &ArrowReaderMetadata,
    mask: ProjectionMask,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let fields = Some(metadata.schema().fields());
    let levels = parquet_to_arrow_field_levels(metadata.parquet_schema(), mask, fields)?;
    let groups = CheckedRowGroups {
        reader: Arc::new(file),
        metadata: metadata.metadata().clone(),
    };
    ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, ROWS, None)
}

/// The footer of a file, with times of 96 bits as microseconds: as nanoseconds, which they are read
/// as otherwise, those before 1677 and after 2262 would become other times.
fn metadata(file: &File) -> Result<ArrowReaderMetadata, ParquetError> {
    let read = ArrowReaderMetadata::load(file, ArrowReaderOptions::new())?;
    let roots = read.parquet_schema().root_schema().get_fields();
    let is_long = |root: usize| {
        roots[root].is_primitive() && roots[root].get_physical_type() == PhysicalType::INT96
    };
    if !(0..roots.len()).any(is_long) {
        return Ok(read);
    }
    let fields = read.schema().fields().iter().enumerate();
    let fields: Vec<Arc<Field>> = fields
        .map(|(root, field)| match field.data_type() {
            DataType::Timestamp(_, zone) if is_long(root) => {
                let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                Arc::new(field.as_ref().clone().with_data_type(micros))
            }
            _ => field.clone(),
        })
        .collect();
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(read.metadata().clone(), options)
}

/// The type that a column is cast to; `None` if its cells are not single values.
fn target(from: &DataType) -> Option<(CellKind, DataType)> {
    use DataType::*;
    Some(match from {
        Null => (CellKind::Missing, Null),
        Utf8 | LargeUtf8 | Utf8View => (CellKind::Text, Utf8),
        Binary | LargeBinary | BinaryView => (CellKind::Bytes, Binary),
        Boolean => (CellKind::Bool, Boolean),
        Int8 | Int16 | Int32 | Int64 => (CellKind::Signed, Int64),
        UInt8 | UInt16 | UInt32 | UInt64 => (CellKind::Unsigned, UInt64),
        Float16 | Float32 | Float64 => (CellKind::Float, Float64),
        // As a float, a decimal of more than 15 digits would lose some: ids would become others.
        Decimal32(_, scale) | Decimal64(_, scale) | Decimal128(_, scale) => {
            let scale = (*scale).max(0);
            (
                CellKind::Decimal(scale.unsigned_abs().into()),
                Decimal128(38, scale),
            )
        }
        Decimal256(_, scale) => {
            let scale = (*scale).max(0);
            (
                CellKind::LongDecimal(scale.unsigned_abs().into()),
                Decimal256(76, scale),
            )
        }
        // The zone is kept: instants are in UTC in any zone.
        Timestamp(_, zone) => (
            CellKind::Time,
            Timestamp(TimeUnit::Microsecond, zone.clone()),
        ),
        Date32 | Date64 => (CellKind::Time, Timestamp(TimeUnit::Microsecond, None)),
        Dictionary(_, values) => return target(values),
        _ => return None,
    })
}
