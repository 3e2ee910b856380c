//! The trigger as an operator: what it waits for and what it does not hold up.

use perennial_operators::statistics::{Standing, View};
use perennial_operators::trigger::{
    Comparison, Metric, Schedule, Trigger, TriggerRules, Watch, trigger,
};
use perennial_operators::{Epoch, ModelId};
use std::cell::RefCell;
use std::rc::Rc;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};

use crate::support::{Row, difference, header, scored, task};

fn rules() -> TriggerRules {
    TriggerRules {
        triggers: vec![Trigger {
            text: "new_samples >= 2".into(),
            metric: Metric::NewSamples,
            comparison: Comparison::GreaterOrEqual,
            threshold: 2.0,
        }],
        schedule: Schedule::default(),
        min_samples: 1,
        min_new_samples: 1,
        min_window: 1,
    }
}

fn total(number: u64, labelled: i64) -> View {
    let standing = Standing {
        total: difference(labelled, &[]).scores(),
        ..Standing::default()
    };
    (task(number), standing)
}

#[test]
fn epoch_is_checked_once_complete() {
    timely::execute_directly(|worker| {
        let probe = Handle::new();
        let orders = Rc::new(RefCell::new(Vec::new()));
        let collected = orders.clone();
        let (mut views, mut ended, mut clock) = worker.dataflow::<Epoch, _, _>(|scope| {
            let (views, views_flow) = scope.new_input::<View>();
            let (ended, ended_flow) = scope.new_input::<ModelId>();
            let (clock, clock_flow) = scope.new_input();
            trigger(
                views_flow,
                empty(scope),
                ended_flow,
                clock_flow,
                Watch::restore(rules(), [], 0),
            )
            .inspect(move |order| collected.borrow_mut().push(order.clone()))
            .probe_with(&probe);
            (views, ended, clock)
        });
        let mut steps = |count: usize| (0..count).for_each(|_| _ = worker.step());

        // Restored views come at the first epoch of all, long before the first header.
        views.send(total(3, 1));
        views.advance_to(Epoch(100));
        ended.advance_to(Epoch(100));
        clock.advance_to(Epoch(100));
        steps(20);
        assert!(
            !probe.less_than(&Epoch(100)),
            "what is restored holds the stream up"
        );

        clock.send(scored(header(100, 1, 0), 0, &[] as &[Row]));
        clock.advance_to(Epoch(101));
        views.send(total(3, 2));
        views.advance_to(Epoch(101));
        steps(20);
        assert!(orders.borrow().is_empty(), "an end can still come");
        assert!(probe.less_equal(&Epoch(100)));
        ended.advance_to(Epoch(101));
        steps(20);
        assert_eq!(orders.borrow().len(), 1);
        assert_eq!(orders.borrow()[0].labelled, 2);
        assert!(!probe.less_than(&Epoch(101)));
    });
}
