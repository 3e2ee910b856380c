//! The content of a knowledge base, byte by byte.

use std::collections::BTreeMap;
use std::path::Path;

use perennial_connectors::knowledge_base::set_sums;
use rocksdb::{ColumnFamilyDescriptor, DB, IteratorMode, Options};

/// The entries of each column family.
pub type Content = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// All entries of a knowledge base by column family, without those of the run and the wire:
/// creation time, progress, ids of topics, output files, and number of messages.
pub fn content(state: &Path) -> Content {
    let path = state.join("knowledge");
    let names = DB::list_cf(&Options::default(), &path).expect("families");
    let families = names.iter().map(|name| {
        let mut options = Options::default();
        if name == "statistics" {
            set_sums(&mut options);
        }
        ColumnFamilyDescriptor::new(name, options)
    });
    let db = DB::open_cf_descriptors_read_only(&Options::default(), &path, families, false);
    let db = db.expect("a store");
    let of_the_run: [&[u8]; 6] = [
        b"run",
        b"since",
        b"progress",
        b"topics",
        b"untransacted",
        b"outputs",
    ];
    let content = names.iter().filter(|name| *name != "edges").map(|name| {
        let family = db.cf_handle(name).expect("a family");
        let entries = db.iterator_cf(family, IteratorMode::Start);
        let entries = entries.map(|entry| entry.expect("an entry"));
        let entries = entries.map(|(key, value)| (key.into_vec(), value.into_vec()));
        let entries = entries.filter(|(key, _)| name != "meta" || !of_the_run.contains(&&key[..]));
        let entries = entries.map(|(key, value)| {
            let is_seen = name == "meta" && key.starts_with(b"seen:");
            let value = if is_seen { ids(&value) } else { value };
            (key, value)
        });
        (name.clone(), entries.collect())
    });
    content.collect()
}

/// Ids of samples without the numbers of their records, which are those of messages.
fn ids(seen: &[u8]) -> Vec<u8> {
    let seen: Vec<(u64, u64)> = postcard::from_bytes(seen).expect("ids");
    seen.iter().flat_map(|(id, _)| id.to_be_bytes()).collect()
}

/// Asserts that two knowledge bases have the same content, and names the column family that
/// differs.
#[track_caller]
pub fn assert_same(ours: &Content, theirs: &Content) {
    for (family, entries) in ours {
        let others = &theirs[family];
        let (here, there) = (entries.len(), others.len());
        assert!(
            entries == others,
            "{family} differs: {here} and {there} entries"
        );
    }
}
