//! Connections of Perennial to the outside. This crate does all input and output; it depends on
//! the data types of `perennial_operators`, which does none.
//!
//! The modules from low to high; each uses only those above it in this list:
//!
//! - [`files`]: durable and private files, and what tells an output's file from another.
//! - [`schema`]: which columns of a record mean what.
//! - [`native`]: where the native libraries and the training program are.
//! - [`kafka`]: settings, clients, errors and health of Kafka.
//! - [`mod@format`]: records as JSON and Avro, and the schema registry.
//! - [`onnx`]: tree models written as ONNX, and any ONNX model run.
//! - [`link`]: signed messages between the cloud and the edges.
//! - [`source`]: samples and labels from files, the simulator, Kafka and edges.
//! - [`sink`]: predictions, dead letters and label requests to files and topics; samples to topics.
//! - [`trainer`]: training by the training program, or by a command of the user's own.
//! - [`knowledge_base`]: everything that the pipeline knows, stored in RocksDB.

pub mod files;
pub mod format;
pub mod kafka;
pub mod knowledge_base;
pub mod link;
pub mod native;
pub mod onnx;
pub mod schema;
pub mod sink;
pub mod source;
pub mod trainer;
