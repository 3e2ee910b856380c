//! Forgetting: what `perennial kb forget` removes is in no file of the state any more.

use std::path::Path;

use perennial_connectors::knowledge_base::{KnowledgeBase, set_sums};
use perennial_operators::{ErasedSite, Erasure};
use rocksdb::{DB, IteratorMode, Options};
use serde_json::Value;
use support::stream::{self, Sample};
use support::{Bench, ended};

/// A site whose name is found in nothing else.
const SITE: &str = "chamber-of-anna";

/// Samples of six sites, one of them [`SITE`].
fn samples(count: usize) -> Vec<Sample> {
    let mut samples = stream::samples(91, count, 0.0);
    for sample in samples.iter_mut().filter(|sample| sample.site == "s4") {
        sample.site = SITE.to_string();
        sample.id = format!("{SITE}-{}", sample.id);
    }
    samples
}

/// A run that was killed while samples wait for their labels, and unseen ones were recognized.
fn killed() -> Bench {
    let bench = Bench::new();
    // A bad line of the site becomes a dead letter.
    let bad = format!("x1,1,{SITE},dry,warm,1,1,fan,low");
    let lines = samples(3000).into_iter().map(|sample| sample.line());
    bench.write("stream.csv", stream::csv_of([bad].into_iter().chain(lines)));
    let config = stream::config("stream.csv", "records: 300");
    let more = "unseen:\n  methods: [attributes, density]\nlabel_requests:\n  per_day: 500\n";
    bench.write("config.yaml", config + more);
    let mut command = bench.pipeline("run", &[]);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#5");
    assert_eq!(ended(command.output()).status, None);
    bench
}

/// Whether a text is in a file of a folder.
fn is_in_files(folder: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .any(|path| {
            if path.is_dir() {
                return is_in_files(&path, text);
            }
            let bytes = std::fs::read(&path).expect("a file");
            contains(&bytes, text)
        })
}

fn contains(bytes: &[u8], text: &str) -> bool {
    let mut windows = bytes.windows(text.len());
    windows.any(|window| window == text.as_bytes())
}

/// Opens the store of the run without the program.
fn store(bench: &Bench) -> DB {
    let path = bench.path("run/knowledge");
    let families = DB::list_cf(&Options::default(), &path).expect("a store");
    let mut options = Options::default();
    set_sums(&mut options);
    let families = families.iter().map(|name| (name, options.clone()));
    DB::open_cf_with_opts(&Options::default(), &path, families).expect("a store")
}

/// The column families that have a text, as RocksDB reads them.
fn families_with(bench: &Bench, text: &str) -> Vec<String> {
    let names = DB::list_cf(&Options::default(), bench.path("run/knowledge")).expect("a store");
    let db = store(bench);
    let has_it = |name: &String| {
        let family = db.cf_handle(name).expect("a column family");
        db.iterator_cf(family, IteratorMode::Start).any(|entry| {
            let (key, value) = entry.expect("an entry");
            contains(&key, text) || contains(&value, text)
        })
    };
    names.into_iter().filter(has_it).collect()
}

fn tasks(bench: &Bench) -> Vec<String> {
    let tasks = bench.kb_json("run", &["tasks"]);
    let name = |task: &Value| task["task"].as_str().expect("a name").to_string();
    tasks.as_array().expect("tasks").iter().map(name).collect()
}

#[track_caller]
fn assert_sound(bench: &Bench) {
    let verified = bench.run(&["kb", "--state", "run", "verify"]).success();
    assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
}

#[test]
fn forgotten_site_is_in_no_file() {
    let bench = killed();
    assert!(is_in_files(&bench.path("run"), SITE));
    let before = families_with(&bench, SITE);
    for family in ["changes", "tasks", "pending"] {
        assert!(before.contains(&family.to_string()), "{before:?}");
    }
    let others: Vec<String> = tasks(&bench)
        .into_iter()
        .filter(|name| !name.contains(SITE))
        .collect();
    let forgotten = bench.kb_json("run", &["forget", "--site", SITE]);
    assert_eq!(forgotten["tasks"], 1, "{forgotten}");
    assert!(forgotten["samples"].as_u64() > Some(0), "{forgotten}");
    assert!(!is_in_files(&bench.path("run"), SITE));
    assert_eq!(families_with(&bench, SITE), Vec::<String>::new());
    assert!(!is_in_files(&bench.path("run"), SITE));
    assert_eq!(tasks(&bench), others);
    assert_sound(&bench);
    let letters = bench.dead_letters("run");
    assert_eq!(letters[0], serde_json::json!({"forgotten": true}));
    let changes = bench.kb("run", &["changes"]);
    assert!(changes.contains("\"forgotten\""), "no change says so");
    // The rest of the stream makes it known again.
    bench.run_as("run", &[]).success();
    assert_sound(&bench);
    assert!(tasks(&bench).iter().any(|name| name.contains(SITE)));
}

#[test]
fn interrupted_forgetting_is_finished_by_the_next_run() {
    let bench = killed();
    let erasure = Erasure {
        site: Some(ErasedSite {
            column: "site".to_string(),
            value: SITE.to_string(),
        }),
        ..Erasure::default()
    };
    // As a process leaves it that is killed at once; the tasks are found by then.
    let knowledge = KnowledgeBase::open_to_edit(&bench.path("run")).expect("a store");
    let erasure = knowledge.complete_erasure(erasure).expect("tasks");
    drop(knowledge);
    let db = store(&bench);
    let meta = db.cf_handle("meta").expect("a column family");
    let marker = postcard::to_stdvec(&erasure).expect("bytes");
    db.put_cf(meta, b"forgetting", marker).expect("a write");
    drop(db);
    bench
        .run(&["kb", "--state", "run", "pin", "base"])
        .success();
    assert!(!is_in_files(&bench.path("run/knowledge"), SITE));
    assert_sound(&bench);
}

#[test]
fn forgotten_task_takes_those_below_with_it() {
    let bench = killed();
    bench
        .run(&["kb", "--state", "run", "forget", "season=wet"])
        .success();
    let left = tasks(&bench);
    assert!(
        left.iter().all(|name| !name.contains("season=wet")),
        "{left:?}"
    );
    assert!(
        left.contains(&"season=dry > site=s1".to_string()),
        "{left:?}"
    );
    assert_sound(&bench);
    let forget = |what: &[&str]| {
        let mut command = vec!["kb", "--state", "run", "forget"];
        command.extend(what);
        bench.run(&command)
    };
    forget(&["season=wet"]).failure(1, &["there is no task \"season=wet\""]);
    forget(&["base"]).failure(1, &["the base task cannot be forgotten"]);
    forget(&[]).failure(2, &["--site"]);
    bench.run_as("run", &[]).success();
    assert_sound(&bench);
}

#[test]
fn old_tasks_are_forgotten_and_young_ones_stay() {
    let bench = Bench::new();
    // A sample a minute: the first sites were last seen two days before the end.
    let mut samples = stream::samples(92, 4000, 0.0);
    for sample in samples.iter_mut().take(1000) {
        sample.site = format!("old-{}", sample.site);
    }
    bench.write("stream.csv", stream::csv(&samples));
    bench.write("config.yaml", stream::config("stream.csv", "records: 10"));
    bench.run_as("run", &[]).success();
    assert_eq!(tasks(&bench).len(), 1 + 2 + 12);
    let forget = ["kb", "--state", "run", "forget", "--older-than", "1"];
    bench.run(&forget).success();
    let left = tasks(&bench);
    assert_eq!(left.len(), 1 + 2 + 6, "{left:?}");
    assert!(left.iter().all(|name| !name.contains("old-")), "{left:?}");
    assert!(!is_in_files(&bench.path("run"), "old-s1"));
    assert_sound(&bench);
    bench
        .run(&["kb", "--state", "run", "forget", "--older-than", "3"])
        .success();
    assert_eq!(tasks(&bench), left);
}
