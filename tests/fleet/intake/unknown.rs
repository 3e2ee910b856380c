//! Messages under names that the cloud does not know.

use std::io::Write;
use std::sync::{Arc, Mutex};

use support::forge::samples;

use super::Intake;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a log").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn unknown_names_are_warned_of_once() {
    let mut intake = Intake::new("intake-unknown");
    intake.open(&["north"], None);
    for number in 0..20 {
        for edge in ["stranger", "foreigner"] {
            let message = intake.message(edge, number, vec![samples("hall", number, 1)]);
            intake.send(&message, edge);
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        intake.read_until("all messages", |intake| intake.dead_letters.len() == 40);
    });
    let logged = String::from_utf8(log.0.lock().expect("a log").clone()).expect("text");
    for edge in ["stranger", "foreigner"] {
        let warnings = logged.lines().filter(|line| line.contains(edge));
        assert_eq!(warnings.count(), 1, "{logged}");
    }
}
