//! Sedna's resources, as far as a config is made from them: `sedna.io/v1alpha1`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::read_yaml;
use crate::error::Error;

/// A resource of Kubernetes, or a list of some, as `kubectl get -o yaml` prints it.
#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    items: Vec<Resource>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

/// The job, and where its samples are.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) job: Job,
    /// The `Dataset` that the job names, if it is in the files.
    pub(super) dataset: Option<Dataset>,
}

/// The `spec` of a `LifelongLearningJob`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    pub(super) dataset: UsedDataset,
    pub(super) train_spec: TrainSpec,
    pub(super) eval_spec: StageSpec,
    pub(super) deploy_spec: StageSpec,
    #[serde(default)]
    pub(super) credential_name: String,
    #[serde(default)]
    pub(super) output_dir: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsedDataset {
    name: String,
    pub(super) train_prob: f64,
}

#[derive(Deserialize)]
pub(super) struct TrainSpec {
    pub(super) template: PodTemplate,
    pub(super) trigger: Trigger,
}

#[derive(Deserialize)]
pub(super) struct StageSpec {
    pub(super) template: PodTemplate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trigger {
    #[serde(default)]
    pub(super) check_period_seconds: Option<u64>,
    #[serde(default)]
    pub(super) timer: Option<Timer>,
    pub(super) condition: Condition,
}

/// A daily window: the local time of the node.
#[derive(Deserialize)]
pub(super) struct Timer {
    pub(super) start: String,
    pub(super) end: String,
}

#[derive(Deserialize)]
pub(super) struct Condition {
    pub(super) operator: String,
    pub(super) threshold: f64,
    pub(super) metric: String,
}

#[derive(Deserialize)]
pub(super) struct PodTemplate {
    pub(super) spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    #[serde(default)]
    pub(super) node_name: String,
    #[serde(default)]
    pub(super) containers: Vec<Container>,
}

#[derive(Deserialize)]
pub(super) struct Container {
    #[serde(default)]
    pub(super) image: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<Variable>,
    #[serde(default)]
    pub(super) resources: Resources,
}

#[derive(Deserialize)]
pub(super) struct Variable {
    pub(super) name: String,
    /// None if it comes from elsewhere, such as a secret.
    #[serde(default)]
    pub(super) value: Option<Value>,
}

#[derive(Default, Deserialize)]
pub(super) struct Resources {
    #[serde(default)]
    pub(super) limits: BTreeMap<String, Value>,
}

/// The `spec` of a `Dataset`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dataset {
    pub(super) url: String,
    pub(super) format: String,
    #[serde(default)]
    pub(super) node_name: String,
}

impl PodTemplate {
    /// The environment of its containers.
    pub(super) fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.spec
            .containers
            .iter()
            .flat_map(|container| &container.env)
    }
}

/// Reads the job of some files, and the dataset that it names.
///
/// # Errors
/// A file cannot be read, is not YAML, or lacks a field; there is no job, or more than one.
pub(super) fn read(files: &[PathBuf]) -> Result<Found, Error> {
    let mut resources = Vec::new();
    for file in files {
        let values = read_yaml(file)
            .map_err(|reason| Error::Arguments(format!("{}: {reason}", file.display())))?;
        for value in values {
            let resource: Resource = typed(value, file, "")?;
            resources.extend(flattened(resource).into_iter().map(|found| (file, found)));
        }
    }
    let of_kind = |kind: &'static str| {
        let resources = resources.iter();
        resources.filter(move |(_, resource)| resource.kind == kind)
    };
    let jobs: Vec<_> = of_kind("LifelongLearningJob").collect();
    let [(file, found)] = jobs[..] else {
        let kinds: Vec<&str> = resources.iter().map(|(_, it)| it.kind.as_str()).collect();
        return Err(Error::Arguments(format!(
            "expected one LifelongLearningJob in the files, and there are {} (they have: {})",
            jobs.len(),
            kinds.join(", ")
        )));
    };
    let name = found.metadata.name.clone();
    let job: Job = typed(found.spec.clone(), file, &name)?;
    let mut datasets = of_kind("Dataset");
    let dataset = datasets.find(|(_, resource)| resource.metadata.name == job.dataset.name);
    let dataset = dataset.map(|(file, resource)| {
        let name = &resource.metadata.name;
        typed::<Dataset>(resource.spec.clone(), file, name)
    });
    Ok(Found {
        name,
        job,
        dataset: dataset.transpose()?,
    })
}

/// The resources of a list, or the resource itself.
fn flattened(resource: Resource) -> Vec<Resource> {
    // Lists are not in lists.
    if resource.items.is_empty() {
        vec![resource]
    } else {
        resource.items
    }
}

/// A value as a type; an error names the field.
fn typed<T: DeserializeOwned>(value: Value, file: &Path, name: &str) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let spec = if name.is_empty() {
            String::new()
        } else {
            format!("\"{name}\": spec.")
        };
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        Error::Arguments(format!(
            "{}: {spec}{path}: {}",
            file.display(),
            error.into_inner()
        ))
    })
}
