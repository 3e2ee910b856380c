//! Edges whose clocks were wrong when their states were made.

use perennial_connectors::link::Lineage;

use support::forge::samples;

use super::Intake;

#[test]
fn new_state_is_taken_whatever_its_clock_says() {
    let mut intake = Intake::new("intake-clocks");
    intake.open(&["north"], None);
    let send = |intake: &Intake, since: i64, incarnation: Option<u64>, first: u64| {
        let mut message = intake.message("north", 0, vec![samples("hall", first, 10)]);
        message.since = since;
        message.lineage = incarnation.map(|incarnation| Lineage {
            incarnation,
            first: 0,
            follows: None,
        });
        intake.send(&message, "north");
    };
    // The clock of the first state was ahead.
    send(&intake, 1000, Some(1), 0);
    send(&intake, 5, Some(2), 10);
    intake.read_until("both states", |intake| intake.samples("hall") == 20);
    assert_eq!(intake.resume.histories["north"].renewals, 1);
    // Messages of either state that come again are known.
    send(&intake, 1000, Some(1), 0);
    send(&intake, 5, Some(2), 10);
    // Without an incarnation the clock alone tells which state is the later one.
    send(&intake, 3, None, 20);
    intake.read_until("the refused one", |intake| !intake.dead_letters.is_empty());
    assert_eq!((intake.samples("hall"), intake.dead_letters.len()), (20, 1));
    let reason = &intake.dead_letters[0].reason;
    assert!(reason.contains("older than what is known"), "{reason}");
}
