//! The configs: one pipeline that does all, or an edge that predicts and a cloud that trains.

use std::io::Write;
use std::path::Path;

use super::learning::JobSections;
use crate::commands::init::scalar;
use crate::error::Error;
use crate::terminal::print;

/// Samples of an edge's bootstrap for each hundred of the cloud's, since the last ones may still
/// wait for their labels when the cloud begins.
const SHARED: u64 = 120;

/// The sections of which configs are made.
pub(super) struct Sections {
    /// Names of the files that were read.
    pub(super) from: String,
    pub(super) name: String,
    pub(super) source: String,
    pub(super) schema: String,
    pub(super) tasks: String,
    pub(super) job: JobSections,
    /// Comments that list what was not carried over.
    pub(super) left_out: String,
}

impl Sections {
    /// One pipeline that does all.
    pub(super) fn one_pipeline(&self) -> String {
        let job = &self.job;
        self.config(
            &format!("name: {}\n", scalar(&self.name)),
            &[
                &self.source,
                &self.schema,
                &self.tasks,
                &self.bootstrap(),
                &job.epoch,
                &job.training,
                &job.unseen,
                &job.predictions,
                &job.report,
            ],
        )
    }

    /// Writes a config for an edge and one for a cloud into a folder, which must not have them.
    pub(super) fn write_edge_and_cloud(&self, folder: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::File(folder.to_path_buf(), error))?;
        let mut told = String::new();
        for (role, config) in [("edge", self.edge()), ("cloud", self.cloud())] {
            let path = folder.join(format!("{}-{role}.yaml", self.name));
            let mut options = std::fs::File::options();
            let created = options.write(true).create_new(true).open(&path);
            created
                .and_then(|mut file| file.write_all(config.as_bytes()))
                .map_err(|error| Error::File(path.clone(), error))?;
            told.push_str(&format!("wrote {}\n", path.display()));
        }
        told.push_str("next: replace CHANGE-ME in both by the cloud's Kafka, and make the keys that they name\n");
        print(&told);
        Ok(())
    }

    fn edge(&self) -> String {
        let name = &self.name;
        let head = format!(
            "name: {}\nrole: edge\nmode: live\n\nlink:\n  kafka: {{brokers: \"CHANGE-ME:9092\"}}\n  changes: {}\n  \
             knowledge: {}\n  # openssl genpkey -algorithm ed25519 -out {name}-edge.pem\n  sign: {}\n  \
             # The cloud's public key.\n  verify: {}\n\n\
             # Sedna's cloud gets all samples as they are. The book has more careful ways, under \"Edge and cloud\".\n\
             share:\n  samples: raw\n",
            scalar(&format!("{name}-edge")),
            scalar(&format!("{name}-changes")),
            scalar(&format!("{name}-knowledge")),
            scalar(&format!("{name}-edge.pem")),
            scalar(&format!("{name}-cloud-public.pem")),
        );
        let bootstrap = format!(
            "# What is shared before anything answers, for the cloud to train its first models on.\nbootstrap:\n  \
             records: {}\n",
            self.job.first * SHARED / 100 + 100
        );
        self.config(
            &head,
            &[
                &self.source,
                &self.schema,
                &self.tasks,
                &bootstrap,
                // The other methods compare with what trainings draw from samples.
                &self.job.unseen.replace(
                    "unseen: {}",
                    "unseen:\n  methods: [attributes, probability]",
                ),
                &self.job.predictions,
            ],
        )
    }

    fn cloud(&self) -> String {
        let name = &self.name;
        let head = format!(
            "name: {}\nrole: cloud\nmode: live\n\nlink:\n  kafka: {{brokers: \"CHANGE-ME:9092\"}}\n  changes: {}\n  \
             knowledge: {}\n  # openssl genpkey -algorithm ed25519 -out {name}-cloud.pem\n  \
             # openssl pkey -in {name}-cloud.pem -pubout -out {name}-cloud-public.pem\n  sign: {}\n  \
             # openssl pkey -in {name}-edge.pem -pubout -out {name}-edge-public.pem\n  edges:\n    {}: {}\n",
            scalar(&format!("{name}-cloud")),
            scalar(&format!("{name}-changes")),
            scalar(&format!("{name}-knowledge")),
            scalar(&format!("{name}-cloud.pem")),
            scalar(&format!("{name}-edge")),
            scalar(&format!("{name}-edge-public.pem")),
        );
        self.config(
            &head,
            &[
                "source:\n  edges: {}\n",
                &self.schema,
                &self.tasks,
                &self.bootstrap(),
                &self.job.training,
                &self.job.report,
            ],
        )
    }

    /// The bootstrap of whoever trains.
    fn bootstrap(&self) -> String {
        format!(
            "# Sedna's first training waits for its condition too.\nbootstrap:\n  records: {}\n",
            self.job.first
        )
    }

    /// A config of a head and sections, with an empty line between them.
    fn config(&self, head: &str, sections: &[&str]) -> String {
        let mut text = format!(
            "# Written by perennial import sedna, from {}.\n{head}",
            self.from
        );
        for section in sections.iter().filter(|section| !section.is_empty()) {
            text.push('\n');
            text.push_str(section.trim_matches('\n'));
            text.push('\n');
        }
        text.push_str(&self.left_out);
        text
    }
}
