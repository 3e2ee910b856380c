//! Keys of the link, from the files that OpenSSL writes: `openssl genpkey -algorithm ed25519`, `openssl pkey -pubout`.

use std::path::Path;

use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{SigningKey, VerifyingKey};

use super::LinkError;

fn read(path: &Path) -> Result<String, LinkError> {
    std::fs::read_to_string(path).map_err(|error| refused(path, &error))
}

fn refused(path: &Path, reason: &dyn std::fmt::Display) -> LinkError {
    LinkError::KeyFile {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// The key with which the cloud signs.
///
/// # Errors
/// The file cannot be read, or is no private key of Ed25519 in PEM.
pub fn signing_key(path: &Path) -> Result<SigningKey, LinkError> {
    let what = "expected a private key of Ed25519 in PEM (openssl genpkey -algorithm ed25519)";
    // What the decoder says of a secret could tell something of it.
    SigningKey::from_pkcs8_pem(&read(path)?).map_err(|_| refused(path, &what))
}

/// The key by which edges know that the cloud has signed.
///
/// # Errors
/// The file cannot be read, or is no public key of Ed25519 in PEM.
pub fn verifying_key(path: &Path) -> Result<VerifyingKey, LinkError> {
    let what = "expected a public key of Ed25519 in PEM (openssl pkey -in private.pem -pubout)";
    VerifyingKey::from_public_key_pem(&read(path)?).map_err(|_| refused(path, &what))
}
