//! Files of samples and labels.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMillisecondArray,
    UInt8Array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use perennial_connectors::schema::{Label, Schema};
use perennial_connectors::source::SourceError;
use perennial_connectors::source::file::{FileConfig, LabelColumns, LabelSource, open};
use support::Bench;
use support::stream::{self, Sample};

use crate::harness::Subject;
use crate::mutate;

/// Longest record in bytes, which bounds the memory for a batch.
const LONGEST: usize = 1 << 14;
/// Records read at a time.
const RECORDS: usize = 200;

/// A schema with a column of each kind.
pub fn schema() -> Schema {
    let text = r#"{"id":"id","time":"time","site":"site","attributes":["season"],
        "features":["a","b","c",{"column":"mode","values":["fan","ac"]}],
        "label":{"column":"label","classes":["low","mid","high"]}}"#;
    serde_json::from_str(text).expect("a schema")
}

/// A file that is written anew for each input.
pub struct Place {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Place {
    pub fn new(name: &str) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        Place {
            path: folder.path().join(name),
            _folder: folder,
        }
    }

    /// Writes an input to the file, and returns its path.
    pub fn write(&self, input: &[u8]) -> &Path {
        fs::write(&self.path, input).expect("a file");
        &self.path
    }

    fn config(&self) -> FileConfig {
        let mut config = FileConfig::new(&self.path);
        config.max_record_bytes = LONGEST;
        config
    }
}

pub fn samples() -> Vec<Sample> {
    stream::samples(1, 12, 0.2)
}

/// The texts, with some of their lines as they may be by other programs.
fn csv_seeds() -> Vec<Vec<u8>> {
    let csv = stream::csv(&samples());
    let quoted = "id,time,site,season,a,b,c,mode,label,note\r\n\
        \"r,1\",2024-06-19T15:22:45+02:00,\"s \"\"one\"\"\",dry,1e3,-0.5,,fan,low,\"two\nlines\"\r\n\
        r2,1718810565.5,s2,wet,NaN,NA,1,ac,,\r\n";
    vec![
        csv.clone().into_bytes(),
        quoted.into(),
        format!("\u{feff}{csv}").into_bytes(),
    ]
}

fn json_seeds() -> Vec<Vec<u8>> {
    let lines: Vec<String> = samples().iter().map(Sample::json).collect();
    let nested = r#"{"id":"x\u00e9","time":"2024-06-19","site":"s","season":null,"a":1e3,"b":true,"c":{"d":[1,{"e":[]}]},"mode":"ac","label":"mid","more":[[["x"]]]}"#;
    vec![(lines.join("\n") + "\n").into_bytes(), nested.into()]
}

fn text_tokens() -> Vec<&'static str> {
    let mut tokens = mutate::TEXT.to_vec();
    tokens.extend([
        "id", "time", "site", "season", "mode", "label", "fan", "low", "r1", "s1",
    ]);
    tokens
}

/// Reads a file of samples to its end.
fn read_samples(config: &FileConfig, schema: &Schema) -> Result<(), SourceError> {
    let mut source = open(config, schema, true)?;
    let mut position = 0;
    loop {
        let read = source.read(RECORDS)?;
        position += (read.batch.len() + read.dead_letters.len()) as u64;
        assert_eq!(read.position, position, "every record is good or bad");
        if read.ended {
            return source.count().map(drop);
        }
    }
}

fn of_samples(file: &str, seeds: Vec<Vec<u8>>) -> Subject {
    let (place, schema) = (Place::new(file), schema());
    Subject {
        seeds,
        tokens: text_tokens(),
        decode: Box::new(move |input| {
            place.write(input);
            read_samples(&place.config(), &schema).is_ok()
        }),
    }
}

pub fn csv() -> Subject {
    of_samples("x.csv", csv_seeds())
}

pub fn json_lines() -> Subject {
    of_samples("x.jsonl", json_seeds())
}

/// Compressed files, damaged after their compression.
pub fn csv_gzip() -> Subject {
    let seeds = csv_seeds().into_iter().map(|csv| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&csv).expect("bytes");
        gzip.finish().expect("bytes")
    });
    of_samples("x.csv.gz", seeds.collect())
}

/// Labels that are numbers in CSV, or of classes in JSON Lines.
pub fn labels() -> Subject {
    let (csv, json) = (Place::new("x.csv"), Place::new("x.jsonl"));
    let label = |text| serde_json::from_str::<Label>(text).expect("a label");
    let columns = |label| LabelColumns {
        id: "id".into(),
        label,
    };
    let number = columns(label(r#"{"column":"label","kind":"number"}"#));
    let classes = columns(label(r#"{"column":"label","classes":["low","1","2.0"]}"#));
    Subject {
        seeds: vec![
            b"id,label\na,1.5\nb,-2e3\n\"c\",\nd,0\n".to_vec(),
            b"{\"id\":\"a\",\"label\":\"low\"}\n{\"id\":7,\"label\":1}\n{\"id\":\"c\",\"label\":2.0}\n".to_vec(),
        ],
        tokens: text_tokens(),
        decode: Box::new(move |input| {
            let (place, columns) = match input.first() {
                Some(b'{') => (&json, &classes),
                _ => (&csv, &number),
            };
            place.write(input);
            read_labels(&place.config(), columns).is_ok()
        }),
    }
}

fn read_labels(config: &FileConfig, columns: &LabelColumns) -> Result<(), SourceError> {
    let mut source = LabelSource::open(config, columns)?;
    while !source.read(RECORDS)?.ended {}
    source.count().map(drop)
}

pub fn parquet() -> Subject {
    let mut subject = of_samples("x.parquet", parquet_seeds());
    subject
        .tokens
        .extend(["PAR1", "PARE", "ARROW:schema", "UTF8"]);
    subject
}

/// Tables with the types, encodings and codecs that writers use.
fn parquet_seeds() -> Vec<Vec<u8>> {
    let texts = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let modes: DictionaryArray<Int32Type> = ["fan", "ac", "fan"].into_iter().collect();
    let plain: Vec<(&str, ArrayRef)> = vec![
        ("id", texts(&["r1", "r2", "r3"])),
        (
            "time",
            Arc::new(
                TimestampMillisecondArray::from(vec![1, 2, 1_700_000_000_000]).with_timezone("UTC"),
            ),
        ),
        (
            "site",
            Arc::new(BinaryArray::from(vec![&b"s1"[..], b"s2", b"\xff"])),
        ),
        ("season", texts(&["dry", "wet", "dry"])),
        (
            "a",
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)])),
        ),
        ("b", Arc::new(Float32Array::from(vec![1.0, -2.0, 3e38]))),
        ("c", Arc::new(UInt8Array::from(vec![0, 255, 7]))),
        ("mode", Arc::new(modes)),
        ("label", texts(&["low", "mid", "high"])),
    ];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let decimals = Decimal128Array::from(vec![Some(12_345), None, Some(-1)]);
    let decimals = decimals.with_precision_and_scale(20, 3).expect("a decimal");
    let other: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, i64::MIN]))),
        ("time", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("site", texts(&["s1", "s1", "s1"])),
        ("season", texts(&["dry", "wet", "dry"])),
        ("a", Arc::new(decimals)),
        (
            "b",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        ("c", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("mode", texts(&["fan", "ac", ""])),
        ("label", texts(&["low", "mid", "high"])),
        ("more", Arc::new(lists)),
    ];
    let zstd = Codec::ZSTD(ZstdLevel::default());
    let deltas = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_column_encoding("site".into(), Encoding::DELTA_BYTE_ARRAY)
        .set_column_encoding("season".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
        .set_column_encoding("time".into(), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding("c".into(), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding("id".into(), Encoding::DELTA_BINARY_PACKED);
    [
        (&plain, WriterProperties::builder()),
        (
            &plain,
            WriterProperties::builder().set_compression(Codec::SNAPPY),
        ),
        (&other, WriterProperties::builder().set_compression(zstd)),
        (&other, deltas),
    ]
    .map(|(columns, properties)| {
        let table = RecordBatch::try_from_iter(columns.iter().cloned()).expect("a table");
        let mut bytes = Vec::new();
        let properties = Some(properties.build());
        let mut writer =
            ArrowWriter::try_new(&mut bytes, table.schema(), properties).expect("a writer");
        writer.write(&table).expect("a table");
        writer.close().expect("a file");
        bytes
    })
    .to_vec()
}

/// A panic of any thread ends the program, but not one that the library of Parquet should have
/// returned as an error.
#[test]
fn damaged_parquet_ends_a_run_with_an_error() {
    let (place, schema) = (Place::new("x.parquet"), schema());
    let whole = parquet_seeds().remove(0);
    let mut damaged = (0..whole.len()).map(|at| {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        damaged
    });
    let damaged = damaged.find(|damaged| {
        place.write(damaged);
        let error = read_samples(&place.config(), &schema).err();
        error.is_some_and(|error| error.to_string().contains("are damaged ("))
    });
    let bench = Bench::new();
    bench.write(
        "x.parquet",
        damaged.expect("a file that the library panics at"),
    );
    bench.write("config.yaml", stream::config("x.parquet", "records: 1"));
    let ended = bench.run_as("state", &[]);
    ended.failure(1, &["x.parquet", "are damaged ("]);
}
