//! Objects of any format that serde reads, parsed straight into a row.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Row;

/// Map from the keys of one object to cells.
pub(super) trait Keys<'a> {
    /// Reads the next key; the place of its value, or none if the value is not wanted.
    fn place<'de, D: Deserializer<'de>>(&mut self, key: D) -> Result<Option<&'a Place>, D::Error>;
}

/// The cell of a value, and how the value is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub cell: usize,
    /// Unit of 32-bit integers.
    pub ints: Unit,
    /// Unit of 64-bit integers.
    pub longs: Unit,
    /// Meaning of bytes.
    pub bytes: Bytes,
}

impl Place {
    /// The place of a value without a logical type.
    pub(super) fn plain(cell: usize) -> Place {
        Place {
            cell,
            ints: Unit::Number,
            longs: Unit::Number,
            bytes: Bytes::Raw,
        }
    }
}

/// The unit of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// None: a plain number.
    Number,
    /// Days since 1970-01-01.
    Days,
    /// Milliseconds since 1970-01-01 UTC.
    Millis,
    /// Microseconds since 1970-01-01 UTC.
    Micros,
    /// Nanoseconds since 1970-01-01 UTC.
    Nanos,
}

impl Unit {
    /// The instant `count` units after 1970-01-01 UTC in microseconds; `None` if it is beyond the
    /// times that can be written.
    fn instant(self, count: i64) -> Option<i64> {
        let micros = match self {
            Unit::Number => None,
            Unit::Days => count.checked_mul(24 * 60 * 60 * 1_000_000),
            Unit::Millis => count.checked_mul(1000),
            Unit::Micros => Some(count),
            Unit::Nanos => Some(count.div_euclid(1000)),
        }?;
        jiff::Timestamp::from_microsecond(micros).ok()?;
        Some(micros)
    }
}

/// The meaning of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    /// None that a cell could hold.
    Raw,
    /// A decimal number: an integer in big-endian two's complement with `scale` digits after the
    /// point.
    Decimal { scale: u32 },
    /// The 16 bytes of a UUID.
    Uuid,
}

/// A value that a cell cannot hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unfit {
    cell: usize,
    /// Name of the value in the reason.
    what: &'static str,
}

impl Unfit {
    /// The reason that makes the record bad.
    pub(super) fn reason(self, columns: &[String]) -> String {
        format!("column {:?} holds {}", columns[self.cell], self.what)
    }
}

/// One record's object.
pub(super) struct Object<'a, K> {
    pub keys: K,
    pub row: &'a mut Row,
    /// The latest value that a cell cannot hold. The object is still read to its end, since errors
    /// of syntax come first.
    pub unfit: &'a mut Option<Unfit>,
}

impl<'de, 'a, K: Keys<'a>> DeserializeSeed<'de> for Object<'a, K> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, 'a, K: Keys<'a>> Visitor<'de> for Object<'a, K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(place) = map.next_key_seed(NextKey(&mut self.keys, PhantomData))? {
            match place {
                Some(place) => map.next_value_seed(CellValue {
                    place,
                    row: self.row,
                    unfit: self.unfit,
                })?,
                None => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}

struct NextKey<'k, 'a, K>(&'k mut K, PhantomData<&'a Place>);

impl<'de, 'a, K: Keys<'a>> DeserializeSeed<'de> for NextKey<'_, 'a, K> {
    type Value = Option<&'a Place>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<&'a Place>, D::Error> {
        self.0.place(key)
    }
}

/// The value of a wanted key.
struct CellValue<'a> {
    place: &'a Place,
    row: &'a mut Row,
    unfit: &'a mut Option<Unfit>,
}

impl CellValue<'_> {
    fn unfit(&mut self, what: &'static str) {
        let cell = self.place.cell;
        *self.unfit = Some(Unfit { cell, what });
    }

    fn integer(&mut self, unit: Unit, value: i64) {
        if unit == Unit::Number {
            return self.row.set_integer(self.place.cell, value.into());
        }
        match unit.instant(value) {
            Some(micros) => self.row.set_time(self.place.cell, micros),
            None => self.unfit("a time beyond the year 9999"),
        }
    }

    fn decimal(&mut self, bytes: &[u8], scale: u32) {
        let set =
            signed(bytes).and_then(|value| self.row.set_decimal(self.place.cell, value, scale));
        if set.is_none() {
            self.unfit("a decimal number of more than 38 digits");
        }
    }
}

impl<'de> DeserializeSeed<'de> for CellValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.row.set_missing(self.place.cell);
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.row.set_bool(self.place.cell, value);
        Ok(())
    }

    fn visit_i32<E: Error>(mut self, value: i32) -> Result<(), E> {
        self.integer(self.place.ints, value.into());
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        self.integer(self.place.longs, value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.row.set_integer(self.place.cell, value.into());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.row.set_number(self.place.cell, value);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.row.set_text(self.place.cell, value);
        Ok(())
    }

    fn visit_bytes<E: Error>(mut self, value: &[u8]) -> Result<(), E> {
        match (self.place.bytes, <[u8; 16]>::try_from(value)) {
            (Bytes::Decimal { scale }, _) => self.decimal(value, scale),
            (Bytes::Uuid, Ok(uuid)) => self
                .row
                .set_uuid(self.place.cell, u128::from_be_bytes(uuid)),
            _ => self.unfit("bytes, not a value"),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.unfit("a list or an object, not a value");
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.unfit("a list or an object, not a value");
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// The integer that bytes hold in big-endian two's complement, if it fits.
fn signed(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let sign = if negative { 0xff } else { 0 };
    let (beyond, bytes) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut all = [sign; 16];
    all[16 - bytes.len()..].copy_from_slice(bytes);
    let value = i128::from_be_bytes(all);
    // A fixed width may exceed what the number needs; the sign fills the rest.
    let fits = value.is_negative() == negative && beyond.iter().all(|byte| *byte == sign);
    fits.then_some(value)
}
