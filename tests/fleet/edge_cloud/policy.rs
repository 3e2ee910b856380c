//! Policies: everything that crossed the link is read back and searched.

use std::collections::BTreeMap;

use perennial_connectors::link::{Changes, open, verifying_key};

use support::fleet::{Fleet, common_config};
use support::stream::{self, Sample};

const BOOTSTRAP: usize = 300;
const SITES: [&str; 2] = ["s0", "s3"];
const EDGES: [&str; 4] = ["nothing", "counts", "part", "all"];

/// Traces of samples that can be searched for in messages.
struct Traces {
    /// The values of `c`, as bytes.
    numbers: Vec<[u8; 4]>,
    ids: Vec<String>,
    sites: Vec<String>,
}

impl Traces {
    fn of(samples: &[Sample]) -> Traces {
        let numbers = samples.iter().filter_map(|sample| sample.numbers[2]);
        Traces {
            numbers: numbers
                .map(|number| (number as f32).to_le_bytes())
                .collect(),
            ids: samples.iter().map(|sample| sample.id.clone()).collect(),
            sites: SITES
                .map(|site| format!("building-{}", &site[1..]))
                .to_vec(),
        }
    }

    /// Number of ids, sites and values found in some bytes.
    fn count(&self, bytes: &[u8]) -> [usize; 3] {
        let texts = |texts: &[String]| {
            let found = texts.iter().filter(|text| is_in(text.as_bytes(), bytes));
            found.count()
        };
        let mut windows: Vec<&[u8]> = bytes.windows(4).collect();
        windows.sort_unstable();
        let is_there = |number: &&[u8; 4]| windows.binary_search(&&number[..]).is_ok();
        let numbers = self.numbers.iter().filter(is_there).count();
        [numbers, texts(&self.ids), texts(&self.sites)]
    }
}

fn is_in(what: &[u8], bytes: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Samples of two sites with unmistakable names and ids.
fn samples(seed: u64) -> Vec<Sample> {
    let samples = stream::samples(seed, 4000, 0.0).into_iter();
    let samples = samples.filter(|sample| SITES.contains(&&*sample.site));
    let named = samples.take(600).map(|sample| Sample {
        id: format!("reading-{seed}-{}-x", sample.id),
        site: format!("building-{}", &sample.site[1..]),
        ..sample
    });
    named.collect()
}

#[test]
fn redacted_columns_never_leave() {
    let fleet = Fleet::new("policy", &EDGES);
    fleet.make_topics();
    let common = common_config();
    let cloud = format!("{common}triggers: {{when: ['new_samples >= 200']}}\n");
    fleet.cloud_config("live", BOOTSTRAP, &cloud);
    let policies = [
        ("nothing", 0, ""),
        ("counts", 0, "statistics: true"),
        (
            "part",
            200,
            "samples: redacted, redact: [c], pseudonyms: [id, site], secret: secret",
        ),
        ("all", 200, "samples: raw"),
    ];
    let mut given = BTreeMap::new();
    for (number, (edge, bootstrap, policy)) in policies.iter().enumerate() {
        let samples = samples(70 + number as u64);
        fleet.edge_config(edge, *bootstrap, policy, &common);
        fleet.produce(edge, &samples);
        given.insert(*edge, samples);
    }
    let cloud = fleet.start("cloud");
    let edges = EDGES.map(|edge| fleet.start(edge));
    for (edge, samples) in &given {
        fleet.wait_for_answers(edge, samples.len());
    }
    fleet.wait_for_samples("part", 600);
    fleet.wait_for_samples("all", 600);
    fleet.wait_until("counts are in the cloud", || {
        let outbox = &fleet.status("counts")["outbox"];
        outbox["waiting"] == 0 && outbox["sent"].as_u64() > Some(0)
    });
    fleet.wait_for_knowledge("all");
    fleet.wait_until("part has its own tasks' models", || {
        let mut tasks = fleet.models("part").into_keys();
        tasks.any(|task| task.contains("site=building-"))
    });
    for edge in edges {
        edge.stop();
    }
    cloud.stop();

    // The message before compression and sealing.
    let mut crossed: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for read in fleet.cloud.read(&fleet.changes()) {
        let edge = String::from_utf8(read.key.expect("a key")).expect("a name");
        let key = fleet.bench.path(&format!("{edge}-public.pem"));
        let key = verifying_key(&key).expect("a key");
        let changes: Changes = open(&read.value, &key, &edge).expect("a message");
        let opened = postcard::to_stdvec(&changes).expect("bytes");
        crossed.entry(edge).or_default().extend(opened);
    }
    assert_eq!(
        crossed.keys().collect::<Vec<_>>(),
        ["all", "counts", "part"]
    );
    let found = |edge: &str| Traces::of(&given[edge]).count(&crossed[edge]);
    let of_all = Traces::of(&given["all"]);
    // The search finds what is allowed.
    assert_eq!(found("all"), [of_all.numbers.len(), 600, 2]);
    assert_eq!(found("counts"), [0, 0, 2]);
    assert_eq!(found("part"), [0, 0, 0]);
    for (edge, bytes) in &crossed {
        assert!(!is_in(b"not to be told", bytes), "{edge}");
    }
    // The cloud's knowledge and its messages hold nothing it was not given.
    for read in fleet.cloud.read(&fleet.knowledge()) {
        let ids = Traces::of(&given["part"]).ids;
        assert!(!ids.iter().any(|id| is_in(id.as_bytes(), &read.value)));
    }

    // An edge whose tasks have pseudonyms in the cloud gets models under its own names.
    let tasks = |state: &str| -> Vec<String> { fleet.models(state).into_keys().collect() };
    let pseudonyms = |task: &String| task.contains("site=") && !task.contains("site=building-");
    assert!(
        tasks("cloud").iter().any(pseudonyms),
        "{:?}",
        tasks("cloud")
    );
    assert!(!tasks("part").iter().any(pseudonyms), "{:?}", tasks("part"));

    // Every change that left is in the audit, with its fields.
    let audit = |edge: &str| {
        let printed = fleet.bench.run(&["audit", "--state", edge, "--json"]);
        support::lines(printed.success().stdout.as_bytes())
    };
    assert!(audit("nothing").is_empty());
    for (edge, fields, pseudonyms) in [
        ("part", vec!["season", "a", "b", "mode"], vec!["id", "site"]),
        (
            "all",
            vec!["id", "site", "season", "a", "b", "c", "mode"],
            vec![],
        ),
        ("counts", vec![], vec![]),
    ] {
        let lines = audit(edge);
        let left = lines.iter().filter(|line| line["state"] == "left");
        let samples: u64 = left
            .map(|line| line["samples"].as_u64().expect("a number"))
            .sum();
        assert_eq!(samples, if edge == "counts" { 0 } else { 600 }, "{edge}");
        assert_eq!(
            lines[0]["to"]["fields"],
            serde_json::json!(fields),
            "{edge}"
        );
        assert_eq!(
            lines[0]["to"]["pseudonyms"],
            serde_json::json!(pseudonyms),
            "{edge}"
        );
        let is_counted = edge == "counts";
        assert_eq!(lines[0]["to"]["statistics"], is_counted, "{edge}");
        let named = if is_counted {
            vec!["season", "site"]
        } else {
            vec![]
        };
        let names = lines[0]["to"]["task_fields"].clone();
        assert_eq!(names, serde_json::json!(named), "{edge}");
    }
    for state in EDGES.iter().chain(&["cloud"]) {
        fleet.assert_sound(state);
    }
}
