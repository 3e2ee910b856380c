//! Clusters of features for people.

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{TaskRecord, View};
use perennial_operators::algorithms::cluster::Clusters;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::terminal::{print, print_json, right, table};

/// The clusters with their centres, in the features' own units.
pub fn clusters(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let Some(clusters) = view.clusters()? else {
        return Err(Error::NotFound(
            "there are no clusters: either no level of tasks.path is one, or no record was read yet".to_string(),
        ));
    };
    if as_json {
        return print_json(&*clusters);
    }
    let names = clusters.features.iter().map(|feature| &*feature.name);
    let header: Vec<&str> = ["cluster", "samples"].into_iter().chain(names).collect();
    let mut table = table(&header);
    for (number, cluster) in clusters.clusters.iter().enumerate() {
        let centre = cluster
            .centre
            .iter()
            .map(|value| right(format!("{value:.4}")));
        let mut row = vec![Cell::new(number + 1), right(cluster.samples)];
        row.extend(centre);
        table.add_row(row);
    }
    print(&format!("{table}\n"));
    if let Some(silhouette) = clusters.silhouette {
        print(&format!(
            "their number was chosen: mean silhouette width {silhouette:.4}\n"
        ));
    }
    Ok(())
}

/// The centre of the cluster that a task is of, feature by feature; none of another task.
pub fn centre(clusters: Option<&Clusters>, record: &TaskRecord) -> Option<Value> {
    let (clusters, definition) = (clusters?, &record.definition);
    let parent = definition.parent?;
    let number = (0..clusters.len() as u32)
        .find(|number| parent.child(&[Clusters::value(*number)]) == definition.task)?;
    let cluster = &clusters.clusters[number as usize];
    let features = clusters.features.iter().zip(&cluster.centre);
    let centre: Map<String, Value> = features
        .map(|(feature, value)| (feature.name.clone(), json!(value)))
        .collect();
    Some(Value::Object(centre))
}
