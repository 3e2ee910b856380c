//! Files as other programs write them: stray quotes, padding, long ids, and times of 96 bits.

use ::parquet::data_type::{ByteArray, ByteArrayType, Int96, Int96Type};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use arrow::array::{Decimal128Array, Decimal256Array};
use arrow::datatypes::i256;

use super::*;

fn ids(batch: &Batch) -> Vec<&str> {
    (0..batch.len()).map(|row| batch.ids.get(row)).collect()
}

#[test]
fn stray_quote_costs_its_line_alone() {
    let files = Files::new();
    let line = |number: usize| format!("r{number},{number},s,dry,1,fan,0\n");
    let before: String = (0..7).map(line).collect();
    let after: String = (8..300).map(line).collect();
    for (bad, next) in [
        // Never closed.
        ("r7,7,\"s,dry,1,fan,0", ""),
        // Closed by the quote of the record after it.
        ("r7,7,\"s,dry,1,fan,0", "q,7,\"s\",dry,1,fan,0\n"),
        // Closed where the record after it opens one, with as many columns as the header.
        ("r7,7,s,dry,1,fan,\"", "q,7,s,dry,1,fan,\"0\"\n"),
    ] {
        let mut source = files.csv(&format!("{before}{bad}\n{next}{after}"));
        let good = 299 + next.lines().count();
        assert_eq!(source.count().unwrap(), Some(good as u64 + 1));
        let read = source.read(1000).unwrap();
        assert_eq!(
            (read.batch.len(), read.ended),
            (good, true),
            "{bad:?} {next:?}"
        );
        let letters = reasons(&read);
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert!(
            letters[0].starts_with("9: a quote is not closed"),
            "{letters:?}"
        );
        assert_eq!(read.dead_letters[0].content, bad);
        assert_eq!(ids(&read.batch).last(), Some(&"r299"));
    }
    // At the end of the file, and above the limit of a record.
    let read = files
        .csv(&format!("{before}r7,7,\"s,dry,1,fan,0"))
        .read(100)
        .unwrap();
    assert_eq!((read.batch.len(), read.dead_letters.len()), (7, 1));
    let text = format!("{HEADER}{before}r7,7,\"s,dry,1,fan,0\n{after}");
    let mut config = files.write("data.csv", text);
    config.max_record_bytes = 1000;
    let read = open(&config, &schema(), true).unwrap().read(1000).unwrap();
    assert_eq!((read.batch.len(), read.dead_letters.len()), (299, 1));
}

#[test]
fn many_stray_quotes_are_read_once() {
    let files = Files::new();
    let line = |number: usize| match number % 3 {
        0 => format!("r{number},{number},\"s,dry,1,fan,0\n"),
        _ => format!("r{number},{number},s,dry,1,fan,0\n"),
    };
    let text: String = (0..60_000).map(line).collect();
    let read = files.csv(&text).read(100_000).unwrap();
    assert_eq!(
        (read.batch.len(), read.dead_letters.len()),
        (40_000, 20_000)
    );
}

#[test]
fn lines_within_quotes_stay_one_record() {
    let files = Files::new();
    let read = files
        .csv("a,1,\"s\n\"\"1\"\",\r\n2\" ,\"dry\n\",1,fan,0\nb,1,s,dry,1,fan,\"0\"")
        .read(10)
        .unwrap();
    assert_eq!(reasons(&read), [""; 0]);
    assert_eq!(read.batch.attribute(0, 0), "s\n\"1\",\r\n2 ");
}

#[test]
fn gzip_of_several_members_and_padding_is_read_whole() {
    let files = Files::new();
    let whole = gzip(format!("{HEADER}a,1,s,dry,1,fan,0\n").as_bytes());
    let more = gzip(b"b,1,s,dry,1,fan,0\n");
    let zeros = vec![0; 300_000];
    for (name, bytes) in [
        ("members", [&whole[..], &more].concat()),
        ("an empty member", [&whole[..], &gzip(b""), &more].concat()),
        ("padding", [&whole[..], &more, &zeros].concat()),
        ("padding between", [&whole[..], &zeros[..7], &more].concat()),
    ] {
        let config = files.write("data.csv.gz", bytes);
        let mut source = open(&config, &schema(), true).unwrap();
        let read = source.read(10).unwrap();
        assert_eq!((read.batch.len(), read.ended), (2, true), "{name}");
    }
    let mut source = open(
        &files.write("data.csv.gz", [&whole[..], b"rubbish behind it"].concat()),
        &schema(),
        true,
    )
    .unwrap();
    assert_eq!(source.read(10).unwrap().batch.len(), 1);
    assert!(source.read(10).unwrap_err().to_string().contains("damaged"));
}

#[test]
fn json_integers_keep_all_their_digits() {
    let files = Files::new();
    let ids = [
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551617",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "9007199254740993",
    ];
    let lines = ids.map(|id| format!("{{\"id\": {id}, \"time\": 1, \"ta\": {id}}}\n"));
    let config = files.write("data.jsonl", lines.concat());
    let read = open(&config, &schema(), true).unwrap().read(10).unwrap();
    assert_eq!(reasons(&read), [""; 0]);
    assert_eq!(self::ids(&read.batch), ids);
    assert_eq!(read.batch.features[[4, 0]], 1.234_567_9e29);
}

/// Writes the columns that the schema wants, with this column of ids.
fn write_ids(path: &PathBuf, ids: ArrayRef) {
    let rows = ids.len();
    let texts = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows])) };
    let columns = [
        ("id", ids),
        ("time", texts("1")),
        ("site", texts("s")),
        ("season", texts("dry")),
        ("ta", texts("1")),
        ("mode", texts("fan")),
        ("vote", texts("1")),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn decimal_ids_keep_all_their_digits() {
    let files = Files::new();
    let path = files.0.path().join("data.parquet");
    let decimal = |values: Vec<i128>, precision, scale| -> ArrayRef {
        let array = Decimal128Array::from(values);
        Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
    };
    let long = i256::from_i128(i128::MAX).wrapping_mul(i256::from_i128(1000));
    let long = Decimal256Array::from(vec![long, i256::from_i128(-7)]);
    let nine = |count: usize| "9".repeat(count).parse::<i128>().unwrap();
    let columns: [(ArrayRef, &[&str]); 4] = [
        (
            decimal(
                vec![738_529_527_931_269_425, 738_529_527_931_269_426],
                20,
                0,
            ),
            &["738529527931269425", "738529527931269426"],
        ),
        (
            decimal(vec![nine(38), nine(38) - 1], 38, 0),
            &[&"9".repeat(38), &("9".repeat(37) + "8")],
        ),
        (
            decimal(vec![12_345_678_901_234_567_890_100, 150], 30, 2),
            &["123456789012345678901", "1.5"],
        ),
        (
            Arc::new(long.with_precision_and_scale(76, 0).unwrap()),
            &["170141183460469231731687303715884105727000", "-7"],
        ),
    ];
    for (column, expected) in columns {
        write_ids(&path, column);
        let config = FileConfig::new(&path);
        let read = open(&config, &schema(), true).unwrap().read(10).unwrap();
        assert_eq!(reasons(&read), [""; 0]);
        assert_eq!(ids(&read.batch), expected);
    }
}

/// A time of 96 bits: nanoseconds of the day, and the Julian day.
fn int96(day: u32, nanos: u64) -> Int96 {
    Int96::from(vec![nanos as u32, (nanos >> 32) as u32, day])
}

#[test]
fn times_of_96_bits_are_read_or_refused() {
    const TEXTS: [(&str, &str); 6] = [
        ("id", ""),
        ("site", "s"),
        ("season", "dry"),
        ("ta", "1"),
        ("mode", "fan"),
        ("vote", "1"),
    ];
    let files = Files::new();
    let path = files.0.path().join("data.parquet");
    let columns = TEXTS.map(|(name, _)| format!("REQUIRED BYTE_ARRAY {name} (UTF8);"));
    let message = format!("message m {{ REQUIRED INT96 time; {} }}", columns.concat());
    let message = Arc::new(parse_message_type(&message).unwrap());
    let mut writer =
        SerializedFileWriter::new(File::create(&path).unwrap(), message, Default::default())
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    // 1970-01-02 00:00:01, 0001-01-01, 9999-12-30, 9999-12-31.
    let times = [
        (2_440_589, 1_000_000_000),
        (1_721_426, 0),
        (5_373_483, 0),
        (5_373_484, 0),
    ];
    let times = times.map(|(day, nanos)| int96(day, nanos));
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int96Type>()
        .write_batch(&times, None, None)
        .unwrap();
    column.close().unwrap();
    for (name, text) in TEXTS {
        let values: Vec<ByteArray> = (0..times.len())
            .map(|row| match name {
                "id" => ByteArray::from(format!("r{row}").as_str()),
                _ => ByteArray::from(text),
            })
            .collect();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, None, None)
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let read = open(&FileConfig::new(&path), &schema(), true)
        .unwrap()
        .read(10)
        .unwrap();
    assert_eq!(
        reasons(&read),
        [r#"4: time "time" is beyond the year 9999"#]
    );
    let written = read.batch.times.iter().map(|micros| {
        let time = jiff::Timestamp::from_microsecond(*micros).unwrap();
        time.to_string()
    });
    assert_eq!(
        written.collect::<Vec<_>>(),
        [
            "1970-01-02T00:00:01Z",
            "0001-01-01T00:00:00Z",
            "9999-12-30T00:00:00Z"
        ]
    );
}
