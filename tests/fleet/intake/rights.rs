//! Keys of edges, and what each may share.

use std::collections::BTreeMap;

use perennial_connectors::link::{Change, Donation, PublishedModel};
use perennial_connectors::source::OnGone;
use perennial_connectors::source::edges::{AllowedValues, EdgeKey};
use perennial_operators::{Epoch, ModelId, SITE, Score, SharedStatistics, TaskDefinition};

use support::forge::{samples, trained};
use support::kafka::PARTITIONS;

use super::{Intake, key, rights};

fn edge_key(name: &str, until: Option<i64>) -> EdgeKey {
    EdgeKey {
        key: key(name).verifying_key(),
        until,
    }
}

#[test]
fn messages_wait_for_the_next_key_of_their_edge() {
    let mut intake = Intake::new("intake-keys");
    intake.open(&["north"], None);
    let send = |intake: &Intake, number: u64, signer: &str| {
        let change = samples("hall", 10 * number, 10);
        intake.send(&intake.message("north", number, vec![change]), signer);
    };
    send(&intake, 0, "north");
    intake.read_until("the first message", |intake| intake.samples("hall") == 10);
    // The edge has its next key, of which the cloud does not know yet.
    send(&intake, 1, "next");
    send(&intake, 2, "next");
    (0..10).for_each(|_| intake.read());
    assert_eq!((intake.samples("hall"), intake.dead_letters.len()), (10, 0));
    // A restart reads from the first message that waits.
    assert_eq!(intake.resumed(), Some(1));
    let mut both = rights("north");
    both.keys.push(edge_key("next", None));
    intake.reload("north", both);
    intake.read_until("messages under the next key", |intake| {
        intake.samples("hall") == 30
    });
    intake.read();
    assert_eq!((intake.dead_letters.len(), intake.resumed()), (0, Some(3)));

    // A key that is taken away counts no more, and one with an end counts for what was sent before.
    let mut next = rights("next");
    next.keys.push(edge_key("north", Some(5)));
    intake.reload("north", next.clone());
    let mut late = intake.message("north", 3, vec![samples("hall", 30, 10)]);
    late.sent = 5;
    intake.send(&late, "north");
    intake.read_until("a late message", |intake| intake.samples("hall") == 40);
    late.changes = vec![(4, samples("hall", 40, 10))];
    late.sent = 6;
    intake.send(&late, "north");
    next.keys.truncate(1);
    intake.reload("north", next);
    late.changes = vec![(5, samples("hall", 50, 10))];
    intake.send(&late, "next");
    intake.read_until("a message under the next key", |intake| {
        intake.samples("hall") == 50
    });
    (0..5).for_each(|_| intake.read());
    assert_eq!(intake.samples("hall"), 50);
}

#[test]
fn refused_messages_behind_a_waiting_one_are_dead_letters_once() {
    let mut intake = Intake::new("intake-behind");
    intake.open(&["north", "south"], None);
    let mut rights_of_all =
        BTreeMap::from(["north", "south"].map(|it| (it.to_string(), rights(it))));
    rights_of_all
        .get_mut("south")
        .expect("it is there")
        .most_model_bytes = 10;
    intake.reload_all(rights_of_all.clone());
    let change = |number: u64| samples("hall", 10 * number, 10);
    let model = Change {
        models: vec![donation(TaskDefinition::base(), &[7; 11])],
        ..change(0)
    };
    // This one waits for its key; behind it are two of nobody, and one with a part too many.
    intake.send(&intake.message("north", 0, vec![change(0)]), "next");
    intake.send(&intake.message("stranger", 0, vec![change(1)]), "stranger");
    intake.send(&intake.message("south", 0, vec![model]), "south");
    intake.send(&intake.message("stranger", 1, vec![change(2)]), "stranger");
    intake.read_until("what does not wait", |intake| {
        (intake.samples("hall"), intake.dead_letters.len()) == (10, 3)
    });
    let reasons = intake.reasons().join(", ");
    assert!(reasons.contains("most_model_bytes"), "{reasons}");
    assert_eq!(intake.resumed(), Some(0));
    // A restart reads all of them again, also if it would accept them now.
    rights_of_all.insert("stranger".to_string(), rights("stranger"));
    for _ in 0..2 {
        intake.open(&["north", "south", "stranger"], None);
        intake.reload_all(rights_of_all.clone());
        (0..10).for_each(|_| intake.read());
        let counts = (intake.samples("hall"), intake.dead_letters.len());
        assert_eq!(counts, (10, 3), "{:?}", intake.reasons());
    }
    assert_eq!(intake.resume.refused.len(), 2);
    let north = rights_of_all.get_mut("north").expect("it is there");
    north.keys.push(edge_key("next", None));
    intake.reload_all(rights_of_all);
    intake.read_until("the one that waited", |intake| intake.samples("hall") == 20);
    (0..2).for_each(|_| intake.read());
    assert_eq!((intake.dead_letters.len(), intake.resumed()), (3, Some(4)));
    assert_eq!(intake.resume.refused, []);
}

#[test]
fn messages_of_a_topic_made_anew_are_not_those_that_were_refused() {
    let mut intake = Intake::new("intake-anew");
    intake.on_gone = OnGone::Earliest;
    intake.open(&["north"], None);
    let change = |number: u64| samples("hall", 10 * number, 10);
    intake.send(&intake.message("north", 0, vec![change(0)]), "next");
    intake.send(&intake.message("stranger", 0, vec![change(1)]), "stranger");
    intake.read_until("a refused message", |intake| intake.dead_letters.len() == 1);
    assert_eq!(
        (intake.resumed(), intake.resume.refused.len()),
        (Some(0), 1)
    );
    intake.source = None;
    intake.broker.delete_topic(&intake.topic);
    intake.broker.create_topic(&intake.topic, PARTITIONS, &[]);
    // Offset 1 is another message now.
    intake.send(&intake.message("north", 0, vec![change(2)]), "north");
    intake.send(&intake.message("north", 1, vec![change(3)]), "north");
    intake.open(&["north"], None);
    intake.read_until("both messages", |intake| intake.samples("hall") == 20);
    (0..2).for_each(|_| intake.read());
    assert_eq!(intake.resume.refused, []);
}

/// A model of a task.
fn donation(task: TaskDefinition, onnx: &[u8]) -> Donation {
    let model = ModelId {
        task: task.task,
        version: 1,
    };
    let base = TaskDefinition::base();
    let above = (task.task != base.task).then_some(base);
    Donation {
        path: above.into_iter().chain([task]).collect(),
        model: PublishedModel {
            model,
            trained: trained(model, onnx),
            evaluated: None,
            onnx: onnx.to_vec(),
            is_stored: false,
        },
    }
}

#[test]
fn models_beyond_the_quota_of_their_edge_are_refused() {
    let mut intake = Intake::new("intake-quota");
    intake.open(&["north"], None);
    let mut north = rights("north");
    (north.most_models, north.most_model_bytes) = (2, 100);
    intake.reload("north", north);
    let model = |number: u64, bytes: usize| {
        let site = ("site".to_string(), format!("s{number}"));
        let task = TaskDefinition::base().child(&[site]);
        Change {
            models: vec![donation(task, &vec![7; bytes])],
            ..Change::default()
        }
    };
    // A later model of a task takes the place of the one before; the third task is one too many.
    let changes = vec![
        model(1, 60),
        model(2, 40),
        model(3, 0),
        model(1, 61),
        model(1, 10),
        model(2, 90),
        model(2, 101),
        samples("hall", 0, 5),
    ];
    intake.send(&intake.message("north", 0, changes), "north");
    intake.read_until("all of it", |intake| intake.samples("hall") == 5);
    intake.read();
    let letters = intake.dead_letters.iter();
    let reasons: Vec<&str> = letters.map(|letter| letter.reason.as_str()).collect();
    let of = |setting: &str| reasons.iter().filter(|it| it.contains(setting)).count();
    let counts = (of("(most_models)"), of("(most_model_bytes)"), reasons.len());
    assert_eq!(counts, (1, 2, 3), "{reasons:?}");
    assert_eq!(intake.models, 4);
}

#[test]
fn what_an_edge_may_not_share_is_refused() {
    let mut intake = Intake::new("intake-rights");
    intake.open(&["north"], None);
    let mut north = rights("north");
    north.models = false;
    north.sites = vec![AllowedValues {
        column: SITE,
        name: "site".to_string(),
        values: ["hall".to_string()].into(),
    }];
    intake.reload("north", north.clone());
    let site = |site: &str| TaskDefinition::base().child(&[("site".to_string(), site.to_string())]);
    let statistics = |task: TaskDefinition| Change {
        epoch: Epoch(0),
        statistics: vec![SharedStatistics {
            task,
            labelled: i64::MAX,
            score: Score::default(),
        }],
        ..Change::default()
    };
    let mut named_so = site("attic");
    named_so.name = site("hall").name;
    let changes = vec![
        samples("hall", 0, 5),
        samples("attic", 5, 7),
        Change {
            models: vec![donation(TaskDefinition::base(), b"")],
            ..Change::default()
        },
        statistics(site("hall")),
        statistics(site("attic")),
        statistics(named_so),
        samples("hall", 12, 5),
    ];
    intake.send(&intake.message("north", 0, changes), "north");
    intake.read_until("all of it", |intake| intake.samples("hall") == 10);
    (0..2).for_each(|_| intake.read());
    assert_eq!(intake.samples("attic"), 0);
    let mut reasons: Vec<&str> = intake
        .dead_letters
        .iter()
        .map(|letter| letter.reason.as_str())
        .collect();
    reasons.sort_unstable();
    let site = "edge \"north\" may not share what is of site \"attic\": see link.edges.north";
    assert!(
        reasons[0].contains("a task with another number"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("may not share models"), "{reasons:?}");
    assert_eq!(reasons[2..], [site; 8]);
    assert_eq!(intake.resume.histories["north"].refused, 10);

    north.samples = false;
    intake.reload("north", north);
    let changes = vec![samples("hall", 17, 3)];
    intake.send(&intake.message("north", 7, changes), "north");
    intake.read_until("refused samples", |intake| intake.dead_letters.len() == 13);
    assert_eq!(intake.samples("hall"), 10);
}
