//! Mutations of valid inputs.

use support::stream::Chance;

/// Numbers at the edges of what lengths, counts and integers may be.
const EDGES: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Tokens of texts that have meanings of their own somewhere.
pub const TEXT: &[&str] = &[
    "NaN",
    "nan",
    "-inf",
    "1e999",
    "1e39",
    "3.4028235e38",
    "-0.0",
    "1e-320",
    "null",
    "NA",
    "true",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "0x10",
    "1_000",
    "",
    " ",
    "\"",
    "\"\"",
    "'",
    ",",
    ";",
    "\n",
    "\r\n",
    "\r",
    "\0",
    "\t",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "é",
    "\u{10ffff}",
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
    ":",
    "- ",
    "#",
    "&a",
    "*a",
    "9999-12-31T23:59:59Z",
    "-009999-01-01",
    "2024-02-30",
    "+99:99",
];

/// Bound on an input in bytes, except for one that repeats.
const LARGEST: usize = 1 << 16;

/// An input made from one of the seeds.
pub fn mutate(seeds: &[Vec<u8>], tokens: &[&str], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = pick(seeds, chance).clone();
    // Mostly few changes, so that the rest stays valid.
    let most = 1 << chance.below(5);
    for _ in 0..1 + chance.below(most) {
        change(&mut bytes, seeds, tokens, chance);
        bytes.truncate(LARGEST);
    }
    if chance.below(64) == 0 {
        nest(&mut bytes, tokens, chance);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], tokens: &[&str], chance: &mut Chance) {
    let at = place(bytes, chance);
    let part = at..at + run(bytes.len() - at, chance);
    match chance.below(12) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        2 if at < bytes.len() => bytes[at] = chance.draw() as u8,
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(part)),
        5 => {
            let block = bytes[part].repeat(1 + chance.below(8) as usize);
            bytes.splice(at..at, block);
        }
        6 => {
            let other = pick(seeds, chance);
            let from = place(other, chance);
            let piece = &other[from..from + run(other.len() - from, chance)];
            bytes.splice(part, piece.iter().copied());
        }
        7 => drop(bytes.splice(at..at, token(tokens, chance))),
        8 => drop(bytes.splice(word(bytes, at), token(tokens, chance))),
        9 => length(bytes, at, chance),
        10 => swap(bytes, part, chance),
        _ => drop(bytes.splice(word(bytes, at), number(chance))),
    }
}

/// Repeats a token, or a piece of the input, many times.
fn nest(bytes: &mut Vec<u8>, tokens: &[&str], chance: &mut Chance) {
    let at = place(bytes, chance);
    let piece = match chance.below(2) {
        0 => token(tokens, chance),
        _ => bytes[at..at + run(bytes.len() - at, chance).min(8)].to_vec(),
    };
    let block = piece.repeat(1 << chance.below(17));
    bytes.splice(at..at, block);
}

/// Overwrites bytes as a length, fixed or of variable width.
fn length(bytes: &mut Vec<u8>, at: usize, chance: &mut Chance) {
    let edge = EDGES[chance.below(EDGES.len() as u64) as usize];
    let edge = edge.wrapping_add(chance.below(3)).wrapping_sub(1);
    let width = 1 << chance.below(4);
    let written = match chance.below(3) {
        0 => edge.to_le_bytes()[..width].to_vec(),
        1 => edge.to_be_bytes()[8 - width..].to_vec(),
        _ => varint(edge),
    };
    let end = bytes.len().min(at + written.len());
    let over = if chance.below(2) == 0 {
        at..end
    } else {
        at..at.max(end.min(at + 1))
    };
    bytes.splice(over, written);
}

/// A number with seven bits in a byte, as Avro, Protobuf, Thrift and postcard write it.
pub fn varint(mut rest: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// A number as a text.
fn number(chance: &mut Chance) -> Vec<u8> {
    let edge = EDGES[chance.below(EDGES.len() as u64) as usize];
    match chance.below(3) {
        0 => edge.to_string(),
        1 => (edge as i64).to_string(),
        _ => f64::from_bits(chance.draw()).to_string(),
    }
    .into_bytes()
}

/// Swaps a part with as many bytes elsewhere.
fn swap(bytes: &mut [u8], part: std::ops::Range<usize>, chance: &mut Chance) {
    let other = chance.below(bytes.len() as u64 + 1) as usize;
    for (one, two) in part.zip(other..bytes.len()) {
        bytes.swap(one, two);
    }
}

/// The word around a place: letters, digits and what numbers have.
fn word(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-+".contains(byte);
    let before = bytes[..at].iter().rev().take_while(|byte| is_word(byte));
    let after = bytes[at..].iter().take_while(|byte| is_word(byte));
    at - before.count()..at + after.count()
}

fn token(tokens: &[&str], chance: &mut Chance) -> Vec<u8> {
    tokens[chance.below(tokens.len() as u64) as usize].into()
}

fn pick<'a>(seeds: &'a [Vec<u8>], chance: &mut Chance) -> &'a Vec<u8> {
    &seeds[chance.below(seeds.len() as u64) as usize]
}

fn place(bytes: &[u8], chance: &mut Chance) -> usize {
    chance.below(bytes.len() as u64 + 1) as usize
}

/// Length of a part of at most `room` bytes, mostly short.
fn run(room: usize, chance: &mut Chance) -> usize {
    let most = 1 << chance.below(10);
    chance.below(room.min(most) as u64 + 1) as usize
}
