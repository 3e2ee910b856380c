//! Headers of a record as bytes, so that they pass through the dataflow as one column.
//!
//! Each header is the length of its name (u16), the name, the length of its value (u32; the
//! greatest number stands for no value), the value. Numbers are little-endian.

use rdkafka::message::Headers as _;

/// The length that stands for no value.
const NONE: u32 = u32::MAX;
/// Bytes of the two lengths of a header.
const PREFIXES: usize = 6;

/// Appends the headers of a message to `bytes`.
pub(crate) fn pack(headers: &rdkafka::message::BorrowedHeaders, bytes: &mut Vec<u8>) {
    for header in headers.iter() {
        push_header(bytes, header.key, header.value);
    }
}

/// Length of the packed headers of a message.
pub(crate) fn packed_len(headers: &rdkafka::message::BorrowedHeaders) -> usize {
    let one = |header: rdkafka::message::Header<'_, &[u8]>| {
        PREFIXES + header.key.len() + header.value.map_or(0, <[u8]>::len)
    };
    headers.iter().map(one).sum()
}

/// Appends one header. A name above 65,535 bytes, which Kafka does not allow, is cut.
pub(crate) fn push_header(bytes: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
    bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
    bytes.extend_from_slice(name);
    let length = value.map_or(NONE, |value| value.len() as u32);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(value.unwrap_or_default());
}

/// Iterator over packed headers: name and value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers<'a>(pub(crate) &'a [u8]);

impl<'a> Headers<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        let name = std::str::from_utf8(self.take(length.into())?).unwrap_or_default();
        let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        let value = match length {
            NONE => None,
            length => Some(self.take(length as usize)?),
        };
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let headers = [("a", Some(&b"1"[..])), ("", None), ("ü", Some(b""))];
        let mut bytes = Vec::new();
        for (name, value) in headers {
            push_header(&mut bytes, name, value);
        }
        assert_eq!(Headers(&bytes).collect::<Vec<_>>(), headers);
        assert_eq!(Headers(&bytes[..bytes.len() - 5]).count(), 2);
    }
}
