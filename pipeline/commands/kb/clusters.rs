//! `perennial kb clusters`: the clusters of features that tasks are made of.

use comfy_table::Cell;
use perennial_connectors::knowledge_base::{TaskRecord, View};
use perennial_operators::algorithms::cluster::Clusters;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::terminal::{number, print_json, print_line, right, table};

/// Prints the clusters with their centres, in the features' own units.
pub(crate) fn clusters(view: &View<'_>, as_json: bool) -> Result<(), Error> {
    let Some(clusters) = view.clusters()? else {
        let message = "there are no clusters: either no level of tasks.path is one, or no record \
                       was read yet";
        return Err(Error::NotFound(message.to_string()));
    };
    if as_json {
        return print_json(&*clusters);
    }
    let names = clusters.features.iter().map(|feature| &*feature.name);
    let header: Vec<&str> = ["cluster", "samples"].into_iter().chain(names).collect();
    let mut rows = table(&header);
    for (index, cluster) in clusters.clusters.iter().enumerate() {
        let mut row = vec![Cell::new(index + 1), right(cluster.samples)];
        let centre = cluster.centre.iter();
        row.extend(centre.map(|value| right(format!("{value:.4}"))));
        rows.add_row(row);
    }
    print_line(rows);
    if let Some(silhouette) = clusters.silhouette {
        let silhouette = number(Some(silhouette));
        print_line(format!(
            "their number was chosen: mean silhouette width {silhouette}"
        ));
    }
    Ok(())
}

/// The centre of a task's cluster, by feature; none if the task is not made of a cluster.
pub(crate) fn centre(clusters: Option<&Clusters>, record: &TaskRecord) -> Option<Value> {
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
