//! Files as sources: formats, bad records, errors and resuming.

mod quirks;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Encoding;
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use perennial_operators::Batch;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::schema::Label;

const HEADER: &str = "id,time,site,season,ta,mode,vote\n";

fn schema() -> Schema {
    let text = r#"{"id":"id","time":"time","site":"site","attributes":["season"],
        "features":["ta",{"column":"mode","values":["fan","ac"]}],
        "label":{"column":"vote","classes":["0","1"]}}"#;
    serde_json::from_str(text).unwrap()
}

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> FileConfig {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        FileConfig::new(path)
    }

    fn csv(&self, records: &str) -> Box<dyn Source> {
        let config = self.write("data.csv", format!("{HEADER}{records}"));
        open(&config, &schema(), true).unwrap()
    }
}

fn error(config: &FileConfig) -> String {
    open(config, &schema(), true).err().unwrap().to_string()
}

/// Dead letters as "record: reason".
fn reasons(read: &crate::source::Read) -> Vec<String> {
    read.dead_letters
        .iter()
        .map(|d| format!("{}: {}", d.record, d.reason))
        .collect()
}

fn text(batch: &Batch) -> String {
    format!(
        "{} {:?} {:?} {:?} {:?} {:?}",
        batch.first, batch.ids, batch.times, batch.attributes, batch.features, batch.labels
    )
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bad_records_are_dead_letters_with_line_and_reason() {
    let files = Files::new();
    let mut source = files.csv(
        "a,1,s,dry,1.5,fan,0\nb,1,s,dry,abc,fan,0\n\nc,1,s\nd,soon,s,dry,1,fan,0\n\
         a,1,s,dry,1,fan,0\ne,1,s,dry,1,fan,7\nf,1,\"s\n1\",dry,,tv,\ng,1,s,dry,inf,ac,1\nh,1,s,wet,2,ac,1.0",
    );
    assert_eq!(source.count().unwrap(), Some(9));
    let read = source.read(100).unwrap();
    assert_eq!((read.position, read.ended), (9, true));
    assert_eq!(
        reasons(&read),
        [
            r#"3: feature "ta" is "abc", not a number"#,
            "5: the record has 3 columns, the header 7",
            r#"6: time "time" is "soon", neither RFC 3339, a date, YYYY-MM-DD HH:MM:SS nor Unix seconds"#,
            r#"7: id "a" was seen before, at record 2"#,
            r#"8: label "vote" is "7", which is not one of its classes"#,
            r#"11: feature "ta" is "inf", not a finite 32-bit number"#,
        ]
    );
    assert_eq!(read.dead_letters[0].content, "b,1,s,dry,abc,fan,0");
    assert_eq!(read.batch.len(), 3);
    assert_eq!(read.batch.attribute(0, 1), "s\n1");
    assert_eq!(read.batch.ids.get(2), "h");
    assert_eq!(read.batch.labels[2], 1.0);
}

#[test]
fn invalid_utf8_matters_in_wanted_columns_only() {
    let files = Files::new();
    let mut content = b"id,time,site,season,ta,mode,vote,note\na,1,s,dry,1,fan,0,".to_vec();
    content.extend(b"\xff\nb,1,\xff,dry,1,fan,0,x\n");
    let mut source = open(&files.write("data.csv", content), &schema(), true).unwrap();
    let read = source.read(10).unwrap();
    assert_eq!(read.batch.len(), 1);
    assert_eq!(reasons(&read), [r#"3: column "site" is not valid UTF-8"#]);
}

#[test]
fn files_that_cannot_be_opened_say_why() {
    let files = Files::new();
    assert!(error(&files.write("data.csv", "")).contains("is empty: it must begin with a header"));
    assert!(error(&files.write("data.csv.gz", gzip(b""))).contains("is empty"));
    assert!(error(&files.write("data.txt", "x")).contains("format"));
    let missing = FileConfig::new(files.0.path().join("date.csv"));
    assert!(error(&missing).contains("does not exist: did you mean "));
    let columns = error(&files.write("data.csv", "id,time,site,seson,ta,mode\n"));
    assert!(
        columns.contains(r#"lacks the columns "season", "vote"; it has "id", "#),
        "{columns}"
    );
    assert!(
        columns.ends_with(r#"did you mean "seson" for "season"?"#),
        "{columns}"
    );
    assert!(error(&files.write("data.parquet", "PAR0")).contains("cannot be opened"));
    let mut header = open(&files.write("data.csv", HEADER), &schema(), true).unwrap();
    assert_eq!(header.count().unwrap(), Some(0));
    assert!(header.read(5).unwrap().ended);
}

#[test]
fn a_truncated_gzip_gives_what_came_before() {
    let files = Files::new();
    let mut content = HEADER.to_owned();
    for i in 0..50_000 {
        content += &format!("r{i},{i},s{},dry,{}.5,fan,1\n", i % 97, i * 7919 % 1013);
    }
    let mut bytes = gzip(content.as_bytes());
    bytes.truncate(bytes.len() / 2);
    let mut source = open(&files.write("data.csv.gz", bytes), &schema(), true).unwrap();
    let mut position = 0;
    let failure = loop {
        match source.read(1000) {
            Ok(read) => {
                assert!(!read.ended && read.dead_letters.is_empty());
                position = read.position;
            }
            Err(error) => break error.to_string(),
        }
    };
    assert!(position > 10_000 && position < 50_000);
    assert!(
        failure.contains(&format!(
            "beyond record {position}: the gzip data end too early"
        )),
        "{failure}"
    );
    assert_eq!(source.read(1).unwrap_err().to_string(), failure);
}

#[test]
fn a_huge_line_is_skipped_with_bounded_memory() {
    let files = Files::new();
    for (name, open_quote) in [("data.csv", ""), ("data.csv", "\""), ("data.jsonl", "\"")] {
        let path = files.0.path().join(name);
        let mut file = std::io::BufWriter::new(File::create(&path).unwrap());
        let (good, header) = match name {
            "data.csv" => ("a,1,s,dry,1,fan,0\n", HEADER),
            _ => ("{\"id\":\"a\",\"time\":1}\n", ""),
        };
        write!(file, "{header}{open_quote}").unwrap();
        for _ in 0..64 {
            file.write_all(&[b'x'; 1 << 20]).unwrap();
        }
        write!(file, "\n{good}").unwrap();
        file.into_inner().unwrap();
        let mut source = open(&FileConfig::new(path), &schema(), true).unwrap();
        let read = source.read(10).unwrap();
        assert_eq!((read.position, read.batch.len()), (2, 1));
        assert!(
            read.dead_letters[0]
                .reason
                .contains("longer than 1048576 bytes")
        );
        assert_eq!(read.dead_letters[0].content.len(), CONTENT);
        assert_eq!(source.count().unwrap(), Some(2));
    }
}

#[test]
fn bad_json_says_where() {
    let files = Files::new();
    let lines = "\u{feff}{\"id\":\"a\",\"time\":1,\"more\":{\"x\":[1]}}\n\n[1]\n{\"id\":\n\
        {\"id\":\"b\",\"time\":1,\"ta\":[1]}\n{\"id\":\"c\",\"time\":1} x\n{\"id\":12345678901234567890,\"time\":1}\r\n";
    let mut source = open(&files.write("data.ndjson", lines), &schema(), true).unwrap();
    assert_eq!(source.count().unwrap(), Some(6));
    let read = source.read(10).unwrap();
    let reasons = reasons(&read);
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(
        reasons[0].starts_with("3: the record is not a JSON object: invalid type"),
        "{reasons:?}"
    );
    assert!(
        reasons[1].starts_with("4: the record is not a JSON object: EOF"),
        "{reasons:?}"
    );
    assert_eq!(
        reasons[2],
        r#"5: column "ta" holds a list or an object, not a value"#
    );
    assert!(
        reasons[3].starts_with("6: the record is not a JSON object: trailing"),
        "{reasons:?}"
    );
    assert_eq!(read.batch.ids.get(1), "12345678901234567890");
}

fn write_parquet(path: &PathBuf) {
    write_parquet_as(path, None);
}

fn write_parquet_as(path: &PathBuf, properties: Option<WriterProperties>) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "mode",
            Arc::new(StringArray::from(vec![Some("ac"), None, Some("fan")])),
        ),
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from(vec![
                1_500_000, 2_000_000, 3_000_000,
            ])),
        ),
        ("site", Arc::new(StringArray::from(vec!["s1", "", "s2"]))),
        (
            "season",
            Arc::new(StringArray::from(vec!["dry", "wet", "dry"])),
        ),
        (
            "ta",
            Arc::new(Float64Array::from(vec![Some(0.1), None, Some(-3.25)])),
        ),
        (
            "vote",
            Arc::new(Int64Array::from(vec![Some(1), Some(0), None])),
        ),
        (
            "unused",
            Arc::new(BooleanArray::from(vec![true, false, true])),
        ),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
            .unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), properties).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn damaged_parquet_is_an_error() {
    let files = Files::new();
    let path = files.0.path().join("whole.parquet");
    write_parquet(&path);
    let whole = std::fs::read(path).unwrap();
    let mut panicked = 0;
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        // The sign of a number in the footer, among others.
        damaged[at] ^= 1;
        let config = files.write("data.parquet", &damaged);
        let read = open(&config, &schema(), true).and_then(|mut source| {
            while !source.read(10)?.ended {}
            Ok(())
        });
        let error = read.err().map(|error| error.to_string());
        panicked += usize::from(error.is_some_and(|error| error.contains("are damaged (")));
    }
    assert!(panicked > 0, "the library asserts nothing any more");
}

/// Otherwise the library reserves memory for as many values as a page says that it has.
#[test]
fn parquet_pages_that_claim_more_values_are_errors() {
    let files = Files::new();
    let read = |path: &PathBuf| {
        let mut source = open(&FileConfig::new(path), &schema(), true)?;
        source.read(10).map(|read| read.position)
    };
    let encodings = |version: WriterVersion| {
        WriterProperties::builder()
            .set_writer_version(version)
            .set_column_dictionary_enabled("time".into(), false)
            .set_column_encoding("time".into(), Encoding::DELTA_BINARY_PACKED)
            .set_column_dictionary_enabled("season".into(), false)
            .set_column_encoding("season".into(), Encoding::DELTA_BYTE_ARRAY)
            .set_column_dictionary_enabled("mode".into(), false)
            .set_column_encoding("mode".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .build()
    };
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let path = files.0.path().join("data.parquet");
        write_parquet_as(&path, Some(encodings(version)));
        assert_eq!(read(&path).unwrap(), 3);
        let whole = std::fs::read(&path).unwrap();
        // The number of values in the header of a dictionary (a struct of the compact protocol of
        // Thrift), and in that of delta-encoded lists: after 128 or 256 in blocks of 4.
        let counts = (4..whole.len()).filter(|at| match whole[at - 4..=*at] {
            [.., 0x4c, 0x15, _] => whole[at + 1..].starts_with(&[0x15, 0x00]),
            [_, 0x80, 1 | 2, 4, _] => true,
            _ => false,
        });
        let mut refused = 0;
        for at in counts {
            let mut damaged = whole.clone();
            damaged[at] = 0x7e;
            std::fs::write(&path, damaged).unwrap();
            let error = read(&path).unwrap_err().to_string();
            let expected = "a page says that it has more values than it has";
            assert!(error.contains(expected), "{error}");
            refused += 1;
        }
        // Dictionaries of id, site, ta and vote, and four lists in the three other columns.
        assert_eq!(refused, 8);
    }
}

#[test]
fn all_formats_give_the_same_batch() {
    let files = Files::new();
    let csv = format!(
        "{HEADER}1,1.5,s1,dry,0.1,ac,1\r\n2,2,,wet,NA,,0\r\n3,1970-01-01 00:00:03,s2,dry,-3.25,fan,\r\n"
    );
    let jsonl = r#"{"id":1,"time":1.5,"site":"s1","season":"dry","ta":0.1,"mode":"ac","vote":1}
        {"id":"2","time":"1970-01-01T00:00:02Z","season":"wet","ta":null,"vote":"0"}
        {"vote":null,"mode":"fan","ta":-3.25,"season":"dry","site":"s2","time":3,"id":3}"#;
    let parquet = files.0.path().join("data.parquet");
    write_parquet(&parquet);
    let configs = [
        files.write("data.csv", &csv),
        files.write("data.csv.gz", gzip(csv.as_bytes())),
        files.write("data.jsonl", jsonl),
        files.write("data.jsonl.gz", gzip(jsonl.as_bytes())),
        FileConfig::new(parquet),
    ];
    let batches: Vec<String> = configs
        .iter()
        .map(|config| {
            let mut source = open(config, &schema(), true).unwrap();
            assert_eq!(source.count().unwrap(), Some(3));
            let read = source.read(10).unwrap();
            assert!(read.dead_letters.is_empty(), "{:?}", read.dead_letters);
            text(&read.batch)
        })
        .collect();
    for batch in &batches {
        assert_eq!(batch, &batches[0]);
    }
}

#[test]
fn labels_from_a_file_of_their_own() {
    let files = Files::new();
    let label = Label {
        column: "vote".into(),
        classes: vec!["0".into(), "1".into()],
        kind: None,
    };
    let columns = LabelColumns {
        id: "id".into(),
        label,
    };
    let config = files.write("labels.csv", "id,vote\na,1\nb,\na,0\nc,0\n");
    let mut source = LabelSource::open(&config, &columns).unwrap();
    assert_eq!(source.count().unwrap(), 4);
    source.skip_to(1).unwrap();
    let read = source.read(10).unwrap();
    assert_eq!((read.position, read.dead_letters.len()), (4, 2));
    assert_eq!(read.batch.ids.get(0), "c");
    assert_eq!(read.batch.labels, vec![0.0]);
}

#[test]
fn skips_go_forward_and_not_beyond_the_end() {
    let files = Files::new();
    let mut source = files.csv("a,1,s,dry,1,fan,0\nb,1,s,dry,1,fan,0\n");
    assert!(
        source
            .skip_to(3)
            .unwrap_err()
            .to_string()
            .contains("has only 2 records")
    );
    assert!(
        source
            .skip_to(1)
            .unwrap_err()
            .to_string()
            .contains("cannot go back")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn skipping_equals_reading(position in 0_usize..200, step in 1_usize..50) {
        let mut records = String::new();
        for i in 0..200 {
            // With duplicate ids, bad values and a growing number of sites.
            let value = if i % 11 == 0 { "bad" } else { "1" };
            records += &format!("r{},{i},s{},dry,{value},fan,1\n", i * i % 150, i / 3);
        }
        let files = Files::new();
        let mut skipped = files.csv(&records);
        let config = FileConfig::new(files.0.path().join("data.csv"));
        let mut undisturbed = open(&config, &schema(), true).unwrap();
        skipped.skip_to(position as u64).unwrap();
        undisturbed.read(position).unwrap();
        loop {
            let (a, b) = (skipped.read(step).unwrap(), undisturbed.read(step).unwrap());
            prop_assert_eq!(text(&a.batch), text(&b.batch));
            prop_assert_eq!(&a.dead_letters, &b.dead_letters);
            prop_assert_eq!(a.position, b.position);
            if a.ended {
                break;
            }
        }
    }
}

#[test]
fn speed_is_printed() {
    let files = Files::new();
    let rows = 100_000;
    let names: Vec<String> = (0..17).map(|i| format!("s{i}")).collect();
    let mut csv = format!("id,time,site,season,vote,{}\n", names.join(","));
    let mut jsonl = String::new();
    for row in 0..rows {
        let values: Vec<String> = (0..17)
            .map(|i| format!("{:.2}", (row * 31 + i * 7) as f64 / 977.0))
            .collect();
        csv += &format!(
            "r{row:010},2024-01-01 00:00:{:02},s{},dry,1,{}\n",
            row % 60,
            row % 60,
            values.join(",")
        );
        let pairs: Vec<String> = names
            .iter()
            .zip(&values)
            .map(|(n, v)| format!("\"{n}\":{v}"))
            .collect();
        jsonl += &format!(
            "{{\"id\":\"r{row:010}\",\"time\":{row},\"site\":\"s{}\",\"vote\":1,{}}}\n",
            row % 60,
            pairs.join(",")
        );
    }
    let mut schema = schema();
    schema.features = names
        .into_iter()
        .map(crate::schema::Feature::Numeric)
        .collect();
    for (name, content) in [("data.csv", csv), ("data.jsonl", jsonl)] {
        let mut source = open(&files.write(name, content), &schema, true).unwrap();
        let start = std::time::Instant::now();
        while !source.read(4096).unwrap().ended {}
        println!(
            "{name}: {} ns a sample",
            start.elapsed().as_nanos() / rows as u128
        );
    }
}
