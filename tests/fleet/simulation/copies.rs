//! States that are restored from copies, or used twice.

use super::{SAMPLES, Weather, World};

#[test]
fn restored_edge_loses_nothing() {
    let mut world = World::new(5, 1, Weather::Calm, "");
    let copy = world.folder.path().join("copy");
    let share = |world: &mut World, samples: usize| {
        world.edges[0].work(samples, SAMPLES);
        world.edges[0].send(&mut world.net, &mut world.chance, false);
        world.cloud.work(&world.net, usize::MAX);
    };
    share(&mut world, 6);
    world.edges[0].settle();
    world.edges[0].back_up(&copy);
    share(&mut world, 5);
    world.edges[0].restore(&copy);
    share(&mut world, 7);
    world.settle();
    let progress = world.cloud.progress("edge-0");
    assert_eq!(progress.samples, SAMPLES as u64);
    let history = world.cloud.history("edge-0");
    assert_eq!((history.forks, history.renewals, history.lost), (1, 0, 0));
    // All of them are new, and none is older than what had come.
    assert_eq!(history.repeated, 0);
}

#[test]
fn copies_of_an_edge_are_told_apart() {
    let mut world = World::new(8, 1, Weather::Calm, "");
    let copy = world.folder.path().join("copy");
    let share = |world: &mut World| {
        world.edges[0].work(2, usize::MAX);
        world.edges[0].send(&mut world.net, &mut world.chance, false);
        world.cloud.work(&world.net, usize::MAX);
    };
    share(&mut world);
    world.edges[0].settle();
    world.edges[0].back_up(&copy);
    // Both go on, in turn.
    let mut twin = world.edges[0].twin(&copy);
    for _ in 0..4 {
        share(&mut world);
        std::mem::swap(&mut world.edges[0], &mut twin);
        share(&mut world);
        std::mem::swap(&mut world.edges[0], &mut twin);
    }
    let history = world.cloud.history("edge-0");
    assert_eq!((history.forks, history.renewals, history.lost), (1, 0, 0));
    assert_eq!(world.cloud.progress("edge-0").samples, 2 + 2 * 8);
    assert_eq!(history.repeated, 0);
}

#[test]
fn new_state_of_an_edge_is_told() {
    let mut world = World::new(9, 1, Weather::Calm, "");
    let share = |world: &mut World, samples: usize| {
        world.edges[0].work(samples, usize::MAX);
        world.edges[0].send(&mut world.net, &mut world.chance, false);
        world.cloud.work(&world.net, usize::MAX);
    };
    share(&mut world, 60);
    // A cloud that has just started does not know the ids of the samples that it has.
    world.cloud.crash();
    // It reads its own stream from the beginning again.
    world.edges[0].start_anew();
    share(&mut world, 30);
    let history = world.cloud.history("edge-0");
    assert_eq!((history.forks, history.renewals, history.lost), (0, 1, 0));
    assert_eq!(history.repeated, 30);
}

#[test]
fn changes_that_never_come_are_counted() {
    let mut world = World::new(10, 1, Weather::Calm, "");
    let share = |world: &mut World| {
        world.edges[0].work(2, SAMPLES);
        world.edges[0].send(&mut world.net, &mut world.chance, false);
    };
    share(&mut world);
    world.cloud.work(&world.net, usize::MAX);
    share(&mut world);
    share(&mut world);
    // The topic has lost them.
    world.net.up.truncate(1);
    share(&mut world);
    world.cloud.work(&world.net, usize::MAX);
    assert_eq!(world.cloud.history("edge-0").lost, 2);
    assert_eq!(world.cloud.progress("edge-0").samples, 4);
}

#[test]
fn edges_take_what_a_restored_cloud_publishes() {
    let mut world = World::new(7, 3, Weather::Calm, "");
    let copy = world.folder.path().join("copy");
    let share = |world: &mut World, samples: usize| {
        for edge in &mut world.edges {
            edge.work(samples, usize::MAX);
            edge.send(&mut world.net, &mut world.chance, false);
        }
        world.cloud.work(&world.net, usize::MAX);
    };
    let publish = |world: &mut World| {
        let World {
            cloud,
            net,
            chance,
            edges,
            ..
        } = world;
        cloud.publish(net, chance, false);
        for edge in edges {
            edge.follow_all(net);
            // It keeps what it has of tasks that the cloud does not know any more.
            let (revisions, deployed) = (edge.revisions(), edge.deployed());
            for (task, revision) in cloud.revisions() {
                assert_eq!(revisions[&task], revision, "{}", edge.name);
            }
            for (task, version) in cloud.deployed() {
                assert_eq!(deployed[&task], version, "{}", edge.name);
            }
        }
    };
    share(&mut world, 150);
    publish(&mut world);
    world.cloud.back_up(&copy);
    share(&mut world, 250);
    publish(&mut world);
    let deployed = world.cloud.deployed();
    world.cloud.restore(&copy);
    assert_ne!(world.cloud.deployed(), deployed);
    publish(&mut world);
    // And so they do after its next start.
    world.cloud.crash();
    share(&mut world, 50);
    publish(&mut world);
}
