//! The end of the dataflow: all effects of an epoch, in one order.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use perennial_operators::commit::{Commit, commit};
use perennial_operators::flow::{
    DeadLetter, Effect, EpochEffects, KnowledgeChange, StageKind, StageMoved, StageState,
    StatisticsMoved,
};
use perennial_operators::{Epoch, ModelId, SamplesRetained, TaskDefinition, TaskId};
use proptest::prelude::*;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Input;

use crate::support::{difference, intake, task};

/// A stage of a task's first model that moves to a state.
fn moved(number: u64, state: StageState) -> Effect {
    Effect::Change(KnowledgeChange::StageMoved(StageMoved {
        model: ModelId {
            task: task(number),
            version: 1,
        },
        stage: StageKind::Train,
        state,
        labelled: 0,
        clock: 0,
        initial: false,
        recent: None,
        detail: String::new(),
    }))
}

/// Every kind of effect, more than once.
fn effects() -> Vec<Effect> {
    let letter = |records, record| {
        let mut intake = intake(1, records);
        intake.dead_letters.push(DeadLetter {
            source: "file".into(),
            record,
            reason: String::new(),
            content: String::new(),
            message: None,
        });
        Effect::Intake(intake)
    };
    let mut effects = vec![
        letter(4, 2),
        letter(9, 1),
        Effect::Unlabelled(2),
        Effect::Unlabelled(3),
        Effect::PendingFloor(17),
        Effect::PendingFloor(12),
    ];
    for number in [5_u64, 3, 8] {
        let mut definition = TaskDefinition::base();
        definition.task = TaskId(number);
        effects.extend([
            Effect::Change(KnowledgeChange::TaskDefined(definition)),
            Effect::Change(KnowledgeChange::StatisticsMoved(StatisticsMoved {
                task: task(number),
                difference: Box::new(difference(1, &[])),
                left: Vec::new(),
            })),
            Effect::Change(KnowledgeChange::SamplesRetained(SamplesRetained {
                task: task(number),
                samples: Vec::new(),
                dropped: Vec::new(),
                classes: Vec::new(),
            })),
            moved(number, StageState::Running),
            moved(number, StageState::Waiting),
            Effect::Change(KnowledgeChange::ModelRetired {
                model: ModelId {
                    task: task(number),
                    version: 1,
                },
            }),
            Effect::Model(format!("hash{number}"), Arc::new(vec![1])),
            Effect::Predictions {
                first: number,
                rows: 1,
                bytes: vec![number as u8],
            },
            Effect::Pending {
                last: number,
                bytes: vec![number as u8],
            },
        ]);
    }
    effects
}

struct Taking(Rc<RefCell<Vec<String>>>);

impl Commit for Taking {
    fn offer(&mut self, effects: EpochEffects) -> Option<EpochEffects> {
        self.0.borrow_mut().push(format!("{effects:?}"));
        None
    }
}

fn committed(effects: Vec<Effect>) -> String {
    timely::execute_directly(move |worker| {
        let taken = Rc::new(RefCell::new(Vec::new()));
        let taking = Taking(taken.clone());
        let mut input = worker.dataflow::<Epoch, _, _>(|scope| {
            let (input, flow) = scope.new_input();
            commit(flow, Some(taking));
            input
        });
        for effect in effects {
            input.send(effect);
            // Each in its own message.
            input.flush();
        }
        input.close();
        while worker.step() {}
        assert_eq!(taken.borrow().len(), 1);
        taken.take().remove(0)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn order_of_arrival_does_not_matter(shuffled in Just(effects()).prop_shuffle()) {
        let expected = committed(effects());
        prop_assert_eq!(committed(shuffled), expected);
    }
}

#[test]
fn changes_are_in_canonical_order() {
    let text = committed(effects());
    let places: Vec<usize> = [
        "TaskDefined",
        "StatisticsMoved",
        "SamplesRetained",
        "StageMoved",
    ]
    .iter()
    .map(|kind| text.find(kind).unwrap())
    .collect();
    assert!(places.is_sorted());
    assert!(text.find("state: Waiting").unwrap() < text.find("state: Running").unwrap());
    // A model is retired after all changes of its stages.
    for number in ["3", "5", "8"] {
        let of = |kind: &str| {
            let model = format!("model: ModelId {{ task: TaskId({number})");
            text.rfind(&format!("{kind} {{ {model}"))
                .or_else(|| text.rfind(&format!("{kind}({kind} {{ {model}")))
        };
        assert!(of("ModelRetired").unwrap() > of("StageMoved").unwrap());
    }
    for whole in [
        "records: 13",
        "unlabelled: 5",
        "pending_floor: Some(12)",
        "clock: 9",
    ] {
        assert!(text.contains(whole), "{whole}");
    }
}

/// Refuses each epoch a few times.
struct Busy {
    refusals: usize,
    left: usize,
    taken: Rc<RefCell<Vec<(u64, usize)>>>,
}

impl Commit for Busy {
    fn offer(&mut self, effects: EpochEffects) -> Option<EpochEffects> {
        if self.left > 0 {
            self.left -= 1;
            return Some(effects);
        }
        self.left = self.refusals;
        self.taken
            .borrow_mut()
            .push((effects.epoch.0, effects.changes.len()));
        None
    }
}

#[test]
fn refused_offer_is_repeated() {
    timely::execute_directly(|worker| {
        let taken = Rc::new(RefCell::new(Vec::new()));
        let busy = Busy {
            refusals: 30,
            left: 30,
            taken: taken.clone(),
        };
        let probe = Handle::new();
        let mut input = worker.dataflow::<Epoch, _, _>(|scope| {
            let (input, flow) = scope.new_input();
            commit(flow, Some(busy)).probe_with(&probe);
            input
        });
        for epoch in 0..3 {
            for number in 0..=epoch {
                input.send(moved(number, StageState::Running));
            }
            input.advance_to(Epoch(epoch + 1));
        }
        for _ in 0..20 {
            worker.step();
        }
        assert!(
            probe.less_equal(&Epoch(0)),
            "what is not taken is not committed"
        );
        while probe.less_than(&Epoch(3)) {
            worker.step_or_park(None);
        }
        assert_eq!(*taken.borrow(), [(0, 1), (1, 2), (2, 3)]);
    });
}
