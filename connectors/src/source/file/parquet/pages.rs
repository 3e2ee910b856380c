//! Pages of Parquet columns, whose counts are checked before anything is decoded: the library
//! reserves memory for as many values as a page says it has.
//!
//! Source: Apache Parquet, "Data Pages" and "Encodings" (parquet-format 2.12).

use std::sync::Arc;

use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

/// Bound on the delta-encoded values of a page, of which any number can have no bytes of their own.
/// Most writers end a page after a megabyte, some after a hundred.
const MOST_DELTAS: u64 = 1 << 27;

/// All row groups of a file.
pub(super) struct CheckedRowGroups<R> {
    pub reader: Arc<R>,
    pub metadata: Arc<ParquetMetaData>,
}

/// The pages of one column in all row groups.
struct CheckedColumn<R> {
    reader: Arc<R>,
    metadata: Arc<ParquetMetaData>,
    column: usize,
    next: usize,
}

/// The pages of one column in one row group.
struct CheckedPages<R: ChunkReader> {
    pages: SerializedPageReader<R>,
    max_definition: i16,
    max_repetition: i16,
}

impl<R: ChunkReader + 'static> RowGroups for CheckedRowGroups<R> {
    fn num_rows(&self) -> usize {
        let groups = self.metadata.row_groups().iter();
        let rows = groups.map(|group| usize::try_from(group.num_rows()).unwrap_or(0));
        rows.fold(0, usize::saturating_add)
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        Ok(Box::new(CheckedColumn {
            reader: self.reader.clone(),
            metadata: self.metadata.clone(),
            column,
            next: 0,
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

impl<R: ChunkReader + 'static> Iterator for CheckedColumn<R> {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.metadata.row_groups().get(self.next)?;
        self.next += 1;
        let chunk = group.column(self.column);
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let pages = SerializedPageReader::new(self.reader.clone(), chunk, rows, None);
        Some(pages.map(|pages| {
            let pages = CheckedPages::new(pages, chunk.column_descr());
            Box::new(pages) as Box<dyn PageReader>
        }))
    }
}

impl<R: ChunkReader + 'static> PageIterator for CheckedColumn<R> {}

impl<R: ChunkReader> CheckedPages<R> {
    fn new(pages: SerializedPageReader<R>, column: &ColumnDescriptor) -> CheckedPages<R> {
        CheckedPages {
            pages,
            max_definition: column.max_def_level(),
            max_repetition: column.max_rep_level(),
        }
    }

    /// Checks the counts of a page.
    fn check(&self, page: &Page) -> Result<()> {
        let is_sound = match page {
            // A value has at least a byte.
            Page::DictionaryPage {
                buf, num_values, ..
            } => *num_values as usize <= buf.len(),
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                rep_level_encoding,
                ..
            } => {
                let count = *num_values;
                let values = || {
                    let values = skip_levels(buf, self.max_repetition, *rep_level_encoding, count)?;
                    skip_levels(values, self.max_definition, *def_level_encoding, count)
                };
                has_sound_deltas(*encoding, count, values)
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let levels = (*def_levels_byte_len as usize) + (*rep_levels_byte_len as usize);
                has_sound_deltas(*encoding, *num_values, || buf.get(levels..))
            }
        };
        if is_sound {
            return Ok(());
        }
        Err(ParquetError::General(
            "a page says that it has more values than it has, or has more than 134,217,728"
                .to_string(),
        ))
    }
}

impl<R: ChunkReader> Iterator for CheckedPages<R> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader> PageReader for CheckedPages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

/// The values of a page of version 1, behind the levels of one kind.
fn skip_levels(bytes: &[u8], most: i16, encoding: Encoding, count: u32) -> Option<&[u8]> {
    if most <= 0 {
        return Some(bytes);
    }
    if encoding == Encoding::RLE {
        let (length, rest) = bytes.split_first_chunk()?;
        return rest.get(u32::from_le_bytes(*length) as usize..);
    }
    // Bit-packed, the only other encoding of levels.
    let bits = u64::from(i16::BITS - most.leading_zeros()) * u64::from(count);
    bytes.get(usize::try_from(bits.div_ceil(8)).ok()?..)
}

/// Whether the delta-encoded lists that a page of `count` values begins with have no more values
/// than the page. Each list says how many it has.
fn has_sound_deltas<'a>(
    encoding: Encoding,
    count: u32,
    values: impl FnOnce() -> Option<&'a [u8]>,
) -> bool {
    let lists = match encoding {
        Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        // Lengths of prefixes, then those of suffixes.
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => return true,
    };
    let most = u64::from(count).min(MOST_DELTAS);
    let Some(mut bytes) = values() else {
        return false;
    };
    (0..lists).all(|list| {
        let Some((deltas, rest)) = Deltas::read(bytes) else {
            // A page without values may end here.
            return bytes.is_empty();
        };
        if deltas.count > most {
            return false;
        }
        let end = if list + 1 < lists {
            deltas.skip(rest)
        } else {
            Some(rest)
        };
        end.map(|end| bytes = end).is_some()
    })
}

/// The header of a delta-encoded list: blocks of deltas, each in miniblocks of one bit width.
struct Deltas {
    /// Deltas of a block.
    block: u64,
    /// Miniblocks of a block.
    miniblocks: u64,
    /// Number of values. The first one is in the header.
    count: u64,
}

impl Deltas {
    fn read(bytes: &[u8]) -> Option<(Deltas, &[u8])> {
        let (block, rest) = read_varint(bytes)?;
        let (miniblocks, rest) = read_varint(rest)?;
        let (count, rest) = read_varint(rest)?;
        let (_first, rest) = read_varint(rest)?;
        let deltas = Deltas {
            block,
            miniblocks,
            count,
        };
        Some((deltas, rest))
    }

    /// The bytes behind the blocks.
    fn skip<'a>(&self, mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        let per_miniblock = self.block.checked_div(self.miniblocks)?;
        if per_miniblock == 0 {
            return None;
        }
        let mut left = self.count.saturating_sub(1);
        while left > 0 {
            let (_least, rest) = read_varint(bytes)?;
            let (widths, rest) = rest.split_at_checked(usize::try_from(self.miniblocks).ok()?)?;
            bytes = rest;
            for width in widths {
                if left == 0 {
                    break;
                }
                let bits = per_miniblock.checked_mul((*width).into())?;
                bytes = bytes.get(usize::try_from(bits / 8).ok()?..)?;
                left = left.saturating_sub(per_miniblock);
            }
        }
        Some(bytes)
    }
}

/// A number in groups of seven bits, the lowest first.
fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}
