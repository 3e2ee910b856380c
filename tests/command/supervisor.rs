//! A run as a service of systemd, and the check of its config alone.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use support::{Bench, ended, simulator, stream};

#[test]
fn service_tells_when_it_is_ready_and_when_it_ends() {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(3000, "records: 100"));
    let supervisor = UnixDatagram::bind(bench.path("notify")).expect("a socket");
    let limit = Some(Duration::from_secs(60));
    supervisor.set_read_timeout(limit).expect("a socket");
    let mut told = [0; 256];
    let mut next = || {
        let length = supervisor.recv(&mut told).expect("it tells");
        String::from_utf8_lossy(&told[..length]).trim().to_string()
    };
    let mut command = bench.pipeline("state", &[]);
    let run = command
        .env("NOTIFY_SOCKET", bench.path("notify"))
        .stdout(std::process::Stdio::null())
        .spawn();
    let run = run.expect("it starts");
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), "STOPPING=1");
    ended(run.wait_with_output()).success();
}

#[test]
fn config_is_checked_without_its_source() {
    let bench = Bench::new();
    bench.write("config.yaml", stream::config("missing.csv", "records: 1"));
    let ended = bench.run(&["validate", "--config-only", "config.yaml"]);
    assert!(ended.success().stdout.ends_with(": the config is valid\n"));
    let ended = bench.run(&["validate", "config.yaml"]);
    ended.failure(1, &["missing.csv"]);
    bench
        .run(&["validate", "--config-only", "config.yaml", "--set", "x=1"])
        .failure(2, &["x"]);
}
