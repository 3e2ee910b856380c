//! Keys of the link, from files of OpenSSL: `openssl genpkey -algorithm ed25519` writes a private
//! one, `openssl pkey -pubout` a public one.

use std::path::Path;

use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{SigningKey, VerifyingKey};

use super::LinkError;
use crate::files::read_secret;

fn refused(path: &Path, reason: &dyn std::fmt::Display) -> LinkError {
    LinkError::KeyFile {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// Reads a private key to sign with.
///
/// # Errors
/// The file cannot be read, other users have access to it, or it is no private key of Ed25519 in
/// PEM.
pub fn signing_key(path: &Path) -> Result<SigningKey, LinkError> {
    let what = "expected a private key of Ed25519 in PEM (openssl genpkey -algorithm ed25519)";
    // An error of the decoder could reveal a part of the secret.
    let bytes = read_secret(path).map_err(|error| refused(path, &error))?;
    let pem = String::from_utf8(bytes).map_err(|_| refused(path, &what))?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| refused(path, &what))
}

/// Reads a public key to verify signatures with.
///
/// # Errors
/// The file cannot be read, or is no public key of Ed25519 in PEM.
pub fn verifying_key(path: &Path) -> Result<VerifyingKey, LinkError> {
    let what = "expected a public key of Ed25519 in PEM (openssl pkey -in private.pem -pubout)";
    let pem = std::fs::read_to_string(path).map_err(|error| refused(path, &error))?;
    VerifyingKey::from_public_key_pem(&pem).map_err(|_| refused(path, &what))
}
