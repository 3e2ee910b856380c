//! Tasks, and the allocation of samples to them.

use std::collections::{HashMap, HashSet};

use perennial_operators::allocate::{Allocator, Level, TaskLevels};
use perennial_operators::{MISSING, TaskDefinition, TaskId};
use proptest::prelude::*;

use crate::support::{Row, batch, header, levels, value};

const COLUMNS: usize = 3;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let code = prop_oneof![3 => 0..4_u32, 1 => Just(MISSING)];
    let row = prop::collection::vec(code, COLUMNS).prop_map(|attributes| Row {
        time: 0,
        attributes,
        features: vec![0.0],
        label: 0.0,
    });
    prop::collection::vec(row, 0..60)
}

/// The path of a row by the documentation: names, from the top.
fn names(row: &Row) -> Vec<String> {
    let mut names = vec!["base".to_string()];
    let mut above = String::new();
    for (column, code) in row.attributes.iter().enumerate() {
        if *code != MISSING {
            let own = format!("a{column}={}", value(*code));
            above = if above.is_empty() {
                own
            } else {
                format!("{above} > {own}")
            };
            names.push(above.clone());
        }
    }
    names
}

proptest! {
    #[test]
    fn groups_partition_the_rows(batches in prop::collection::vec(rows(), 1..5)) {
        let mut allocator = Allocator::new(levels(COLUMNS));
        let mut ids: HashMap<String, TaskId> = HashMap::new();
        for rows in &batches {
            let allocated = allocator.allocate(header(1, 0, 0), batch(0, rows));
            prop_assert_eq!(allocated.order.len(), rows.len());
            prop_assert_eq!(allocated.group_of.len(), rows.len());
            let mut start = 0;
            let mut met = vec![false; rows.len()];
            let mut leaves = HashSet::new();
            let mut first_rows = Vec::new();
            for (number, group) in allocated.groups.iter().enumerate() {
                prop_assert_eq!(group.start, start);
                prop_assert!(group.end > group.start, "an empty group");
                start = group.end;
                let order = &allocated.order[group.start..group.end];
                prop_assert!(order.is_sorted_by(|a, b| a < b));
                first_rows.push(order[0]);
                prop_assert!(leaves.insert(group.path.leaf().task), "two groups of a task");
                for row in order {
                    let row = *row as usize;
                    prop_assert!(!std::mem::replace(&mut met[row], true));
                    prop_assert_eq!(allocated.group_of[row] as usize, number);
                    let path: Vec<_> = group.path.nodes.iter().map(|node| node.name.to_string()).collect();
                    prop_assert_eq!(path, names(&rows[row]));
                }
                for (above, node) in group.path.nodes.iter().zip(&group.path.nodes[1..]) {
                    prop_assert_eq!(node.parent, Some(above.task));
                    let known = *ids.entry(node.name.to_string()).or_insert(node.task);
                    prop_assert_eq!(known, node.task);
                }
                prop_assert_eq!(&group.path.nodes[0], &TaskDefinition::base());
            }
            prop_assert_eq!(start, rows.len());
            prop_assert!(met.iter().all(|met| *met));
            prop_assert!(first_rows.is_sorted(), "groups are not by first appearance");
        }
        let distinct: HashSet<_> = ids.values().collect();
        prop_assert_eq!(distinct.len(), ids.len());
    }
}

#[test]
fn level_of_two_attributes_uses_the_known_ones() {
    let levels = TaskLevels {
        levels: vec![
            Level::Attributes(vec![(0, "season".into()), (1, "cooling".into())]),
            Level::Attributes(vec![(2, "city".into())]),
        ],
    };
    let row = |attributes: [u32; 3]| Row {
        time: 0,
        attributes: attributes.to_vec(),
        features: vec![0.0],
        label: 0.0,
    };
    let rows = [row([1, 2, 3]), row([1, MISSING, 3]), row([MISSING; 3])];
    let allocated = Allocator::new(levels).allocate(header(1, 3, 0), batch(0, &rows));
    let names: Vec<&str> = allocated
        .groups
        .iter()
        .map(|group| &*group.path.leaf().name)
        .collect();
    assert_eq!(
        names,
        [
            "season=v1, cooling=v2 > city=v3",
            "season=v1 > city=v3",
            "base"
        ]
    );
}

#[test]
fn task_ids_are_stable() {
    // Stored in every knowledge base: these must never change.
    let pair = |attribute: &str, value: &str| (attribute.to_string(), value.to_string());
    let hot = TaskId::BASE.child(&[pair("season", "hot")]);
    assert_eq!(
        hot,
        TaskDefinition::base().child(&[pair("season", "hot")]).task
    );
    let text = format!("{hot} {}", hot.child(&[pair("city", "athens")]));
    assert_eq!(text, "91584e4a450bcf14 e95c568816ecefca");
    assert_eq!(hot.to_string().len(), 16);
}

#[test]
fn children_do_not_collide() {
    let pair = |attribute: &str, value: String| (attribute.to_string(), value);
    let mut ids = HashSet::from([TaskId::BASE]);
    let mut paths = 1;
    for season in 0..50 {
        let season = TaskId::BASE.child(&[pair("season", season.to_string())]);
        paths += 1;
        ids.insert(season);
        for city in 0..6000 {
            paths += 1;
            ids.insert(season.child(&[pair("city", city.to_string())]));
        }
    }
    // Names that would be the same without lengths and order.
    for values in [
        vec![("a", "bc"), ("d", "")],
        vec![("ab", "c"), ("d", "")],
        vec![("a", "bcd")],
        vec![("", "abcd")],
        vec![("d", ""), ("a", "bc")],
        vec![("season", "x")],
        vec![("city", "x")],
        vec![],
    ] {
        let values: Vec<_> = values
            .into_iter()
            .map(|(a, v)| pair(a, v.to_string()))
            .collect();
        paths += 1;
        ids.insert(TaskId::BASE.child(&values));
    }
    assert_eq!(ids.len(), paths);
}
