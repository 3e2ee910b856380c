//! Label requests on a topic, answered by hand and from a file.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use support::kafka::Broker;
use support::stream::{self, CLASSES, Sample};
use support::topics::{BOOTSTRAP, Pipeline};
use support::{ended, json, lines};

/// Number of labels received, with those that wait in the group of an unknown site.
fn known(pipeline: &Pipeline) -> u64 {
    let unseen = pipeline.bench.kb_json("state", &["unseen"]);
    let held = unseen["unseen"].as_array().expect("groups").iter();
    let held: u64 = held.filter_map(|group| group["labelled"].as_u64()).sum();
    let labelled = pipeline.bench.report("report")["labelled"].as_u64();
    labelled.expect("a count") + held
}

#[test]
fn labels_are_requested_and_answered() {
    let broker = Broker::shared();
    let pipeline = Pipeline::new(&broker, "asked", true);
    let truth = stream::samples(41, 2400, 0.0);
    // After the bootstrap there are no labels, and there is an unknown site.
    let samples: Vec<Sample> = truth
        .iter()
        .enumerate()
        .map(|(at, sample)| Sample {
            label: sample.label.filter(|_| at < BOOTSTRAP),
            site: if at > BOOTSTRAP && at % 7 == 0 {
                "s9".to_string()
            } else {
                sample.site.clone()
            },
            ..sample.clone()
        })
        .collect();
    pipeline.produce(&samples);
    let requests = format!(
        "label_requests={{per_day: 40, kafka: {{topic: {}}}}}",
        pipeline.topic("requests")
    );
    let set = ["--set", "unseen={}", "--set", requests.as_str()];
    pipeline.run(&set).success();
    let asked: Vec<Value> = broker
        .read(&pipeline.topic("requests"))
        .iter()
        .map(|request| {
            let value = json(&request.value);
            // A request has the key of its sample, so that the label goes to the same partition.
            let key = request.key.as_deref().map(String::from_utf8_lossy);
            assert_eq!(key.as_deref(), value["site"].as_str(), "{value}");
            value
        })
        .collect();
    assert!((10..=40).contains(&asked.len()), "{}", asked.len());
    assert!(asked.iter().any(|request| request["unseen"] == true));
    let label = |more: &[&str]| {
        let all = [
            &["label", "config.yaml", "--state", "state"],
            set.as_slice(),
            more,
        ]
        .concat();
        pipeline.bench.command(&all)
    };
    let listed = ended(label(&["--json"]).output()).success();
    let listed = lines(listed.stdout.as_bytes());
    assert_eq!(listed.len(), asked.len());
    let report = pipeline.bench.report("report");
    assert_eq!(report["labelled"], 0);
    // The first by number, the second not at all, the third by name at the second try.
    let of = |request: &Value| -> &str {
        let id = request["id"].as_str().expect("an id");
        let sample = truth
            .iter()
            .find(|sample| sample.id == id)
            .expect("a sample");
        CLASSES[sample.label.expect("a label")]
    };
    let number = CLASSES
        .iter()
        .position(|class| *class == of(&listed[0]))
        .expect("a class")
        + 1;
    let typed = format!("{number}\n\nnone\n{}\nq\n", of(&listed[2]));
    let mut child = label(&[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("an input");
    stdin.write_all(typed.as_bytes()).expect("it reads");
    drop(stdin);
    let said = ended(child.wait_with_output()).success().stdout;
    assert!(
        said.contains("2 labels sent") && said.contains("\"none\" is none of these"),
        "{said}"
    );
    assert!(said.contains("1 low, 2 mid, 3 high"), "{said}");
    pipeline.run(&set).success();
    assert_eq!(known(&pipeline), 2);
    // The others from a file, which has one too many.
    let mut answers = "id,label\nr1,low\n".to_string();
    for request in listed.iter().skip(3) {
        answers.push_str(&format!(
            "{},{}\n",
            request["id"].as_str().expect("an id"),
            of(request)
        ));
    }
    pipeline.bench.write("answers.csv", answers);
    let said = ended(label(&["--answers", "answers.csv"]).output()).success();
    assert!(
        said.stdout
            .contains(&format!("{} labels sent", listed.len() - 3)),
        "{said:?}"
    );
    assert!(said.stderr.contains("1 labels left out"), "{said:?}");
    pipeline.run(&set).success();
    assert_eq!(known(&pipeline), listed.len() as u64 - 1);
    let open = ended(label(&["--json"]).output()).success();
    assert_eq!(lines(open.stdout.as_bytes())[0]["id"], listed[1]["id"]);
    // An unknown class is refused.
    pipeline.bench.write("answers.csv", "id,label\nr1000,hot\n");
    let refused = ended(label(&["--answers", "answers.csv"]).output());
    refused.failure(1, &["answers.csv", "\"hot\""]);
}
