//! Config files.

use std::fs;

use perennial::config::{Settings, load};
use support::stream;

use crate::files::Place;
use crate::harness::Subject;
use crate::mutate;

pub fn config() -> Subject {
    let place = Place::new("config.yaml");
    let files = fs::read_dir(support::checkout("configs")).expect("the configs");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let read = |path| fs::read(path).expect("a config");
    let mut seeds: Vec<Vec<u8>> = files.into_iter().map(read).collect();
    seeds.push(stream::config("x.csv", "records: 100").into_bytes());
    seeds.push(support::simulator(1000, "records: 100").into_bytes());
    let mut tokens = mutate::TEXT.to_vec();
    tokens.extend([
        "${HOME}",
        "${",
        "}",
        "!!str ",
        "<<: *a",
        "? ",
        "|",
        ">-",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "- - - - ",
        "{a: ",
        "\n  ",
        "~",
        ".inf",
        "-.inf",
        ".nan",
        "0",
        "-1",
        "1e400",
        "yes",
    ]);
    Subject {
        seeds,
        tokens,
        decode: Box::new(move |input| {
            let loaded = load(place.write(input), &["name=x".to_owned()]);
            loaded.and_then(Settings::try_from).is_ok()
        }),
    }
}
