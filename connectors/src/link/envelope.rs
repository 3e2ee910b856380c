//! Envelopes of messages of the link, versioned and signed. Opening one checks that it is complete,
//! who signed it, and that its version is known.
//!
//! An envelope is four letters, the version of the protocol (u16, little-endian), a signature by
//! Ed25519 (RFC 8032) of letters, version and message, and the message in postcard, compressed by
//! Zstandard (RFC 8878).

use std::io::Read;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// First bytes of each envelope.
const LETTERS: [u8; 4] = *b"PRNL";
/// Version of the messages.
const PROTOCOL: u16 = 1;
const SIGNATURE: usize = 64;
const HEAD: usize = LETTERS.len() + 2 + SIGNATURE;
/// Bound in bytes on a decompressed message.
const LARGEST: u64 = 32 << 20;

/// Failures of a message of the link, of its keys or of the object store.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The bytes are no message of the link, or incomplete.
    #[error("it is not a Perennial message, or truncated")]
    Torn,
    /// The message has a later version.
    #[error(
        "it has version {found} of the protocol, and this program reads version {PROTOCOL}: bring this program up to date"
    )]
    Newer {
        /// The version of the message.
        found: u16,
    },
    /// The signature is of another key, or the message was changed.
    #[error(
        "its signature is not that of {0}: somebody else has written it, or changed it on the way"
    )]
    Signature(String),
    /// The message is about another task than its key.
    #[error("its key is not that of the task that it is about")]
    Key,
    /// The message is of another edge than its key.
    #[error("its key is that of edge \"{key}\", but it is of edge \"{found}\"")]
    Edge {
        /// The edge of the key.
        key: String,
        /// The edge in the message.
        found: String,
    },
    /// The edge is not in the config.
    #[error("edge \"{0}\" is not known: give its public key in link.edges")]
    UnknownEdge(String),
    /// The message is older than a known one.
    #[error("it is older than what is known: a message that was sent before comes again")]
    Old,
    /// The time at which it was sent is impossible.
    #[error("it says that it was sent {0}: set the clocks right")]
    Clock(String),
    /// Its models or samples are of another schema.
    #[error("it is for samples of another schema: edge and cloud need the same schema and classes")]
    Schema,
    /// Its model does not match its record.
    #[error("its model does not match its hash")]
    Hash,
    /// Its model is in an object store, and the config has none.
    #[error("its model is in an object store: set link.store")]
    NoStore,
    /// The message is larger than the topic allows.
    #[error(
        "it has {bytes} bytes, more than the topic takes: raise the topic's max.message.bytes, up to 32 MiB, or set link.store, \
         where large models go"
    )]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// The object store cannot be used.
    #[error("the object store {url}: {reason}")]
    Store {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
    },
    /// A key cannot be used.
    #[error("the key {path} cannot be used: {reason}")]
    KeyFile {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl LinkError {
    /// Whether the same attempt may succeed later without a change by the user. All other errors
    /// are definite.
    pub fn is_transient(&self) -> bool {
        matches!(self, LinkError::Store { .. })
    }
}

/// The signed bytes of an envelope. They include the version, so that nobody can change it.
fn signed(version: u16, body: &[u8]) -> Vec<u8> {
    [&LETTERS, version.to_le_bytes().as_slice(), body].concat()
}

/// Seals a message in a signed envelope.
pub fn seal<T: Serialize>(message: &T, key: &SigningKey) -> Result<Vec<u8>, LinkError> {
    let message = postcard::to_stdvec(message).map_err(|_| LinkError::Torn)?;
    let body = zstd::bulk::compress(&message, zstd::DEFAULT_COMPRESSION_LEVEL);
    let body = body.map_err(|_| LinkError::Torn)?;
    let signature = key.sign(&signed(PROTOCOL, &body)).to_bytes();
    Ok([
        &LETTERS,
        PROTOCOL.to_le_bytes().as_slice(),
        &signature,
        &body,
    ]
    .concat())
}

/// Opens an envelope. `who` names the owner of `key` in errors.
///
/// # Errors
/// The envelope is incomplete, of a later version, or not signed with the key.
pub fn open<T: DeserializeOwned>(
    envelope: &[u8],
    key: &VerifyingKey,
    who: &str,
) -> Result<T, LinkError> {
    let (head, body) = envelope.split_at_checked(HEAD).ok_or(LinkError::Torn)?;
    let (letters, rest) = head.split_at(LETTERS.len());
    if letters != LETTERS {
        return Err(LinkError::Torn);
    }
    let (version, signature) = rest.split_at(2);
    let found = version.try_into().map_or(0, u16::from_le_bytes);
    if found > PROTOCOL {
        return Err(LinkError::Newer { found });
    }
    let signature: [u8; SIGNATURE] = signature.try_into().map_err(|_| LinkError::Torn)?;
    let signature = Signature::from_bytes(&signature);
    key.verify_strict(&signed(found, body), &signature)
        .map_err(|_| LinkError::Signature(who.to_string()))?;
    let mut message = Vec::new();
    let decoder = zstd::Decoder::new(body).map_err(|_| LinkError::Torn)?;
    // A message that is cut here does not parse below.
    let read = decoder.take(LARGEST).read_to_end(&mut message);
    read.map_err(|_| LinkError::Torn)?;
    match postcard::take_from_bytes(&message) {
        Ok((message, [])) => Ok(message),
        _ => Err(LinkError::Torn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sealed_message_is_opened() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let sealed = seal(&"a message", &key).unwrap();
        let public = key.verifying_key();
        let open = |envelope: &[u8], key: &VerifyingKey| open::<String>(envelope, key, "x");
        assert_eq!(open(&sealed, &public).unwrap(), "a message");
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert!(matches!(
            open(&sealed, &other),
            Err(LinkError::Signature(who)) if who == "x"
        ));
        // A change of any byte is found.
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &public).is_err(), "{at}");
        }
        for end in 0..sealed.len() {
            assert!(open(&sealed[..end], &public).is_err(), "{end}");
        }
        let mut newer = sealed;
        newer[4] = 9;
        let refused = open(&newer, &public);
        assert!(matches!(refused, Err(LinkError::Newer { found: 9 })));
    }
}
