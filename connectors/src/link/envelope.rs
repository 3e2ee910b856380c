//! Envelopes of messages of the link, versioned and signed. Opening one checks that it is complete,
//! who signed it, and that its version is known.
//!
//! An envelope is four letters, the version of the message (u16, little-endian), a signature by
//! Ed25519 (RFC 8032) of letters, version and message, and the message in postcard, compressed by
//! Zstandard (RFC 8878).

use std::io::Read;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::metered;

/// First bytes of each envelope.
const LETTERS: [u8; 4] = *b"PRNL";
const SIGNATURE: usize = 64;
const HEAD: usize = LETTERS.len() + 2 + SIGNATURE;
/// Bound in bytes on a decompressed message.
const LARGEST: u64 = 32 << 20;
/// Bound in bytes on the memory that the lists in a message take: models are a byte a byte, samples
/// and statistics up to eight, in messages of a megabyte.
const MEMORY: usize = 128 << 20;

/// Failures of a message of the link, of its keys or of the object store.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The bytes are no message of the link, or incomplete.
    #[error("it is not a Perennial message, is truncated, or would take too much memory")]
    Torn,
    /// The message has a later version.
    #[error(
        "it has version {found} of the protocol, which this program does not read: bring this program up to date"
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
    /// The key is not valid any more.
    #[error(
        "it was sent after its key was valid: give {0} another key, or its key another link.edges.NAME.keys.until"
    )]
    Expired(String),
    /// The key is no longer one of the edge.
    #[error("its key was revoked: link.edges no longer has it")]
    Revoked,
    /// The edge has no right to share this.
    #[error("edge \"{edge}\" may not share {what}: see link.edges.{edge}")]
    Forbidden {
        /// The edge.
        edge: String,
        /// What it may not share.
        what: String,
    },
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
    /// The object store answers, but lacks the model.
    #[error("the object store {url} has no model {hash}: give cloud and edges the same link.store")]
    Missing {
        /// Its address.
        url: String,
        /// Hash of the model.
        hash: String,
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
        matches!(self, LinkError::Store { .. } | LinkError::Missing { .. })
    }
}

/// A message of the link.
pub trait LinkMessage: Serialize + Sized {
    /// Version of its layout. A program that reads only earlier ones refuses it.
    const VERSION: u16;

    /// Decodes a message of this version or an earlier one; none if it is incomplete.
    fn decode(version: u16, bytes: &[u8]) -> Option<Self>;
}

/// Decodes a value that takes all of the bytes, and at most [`MEMORY`].
pub(super) fn decode_whole<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut deserializer = postcard::Deserializer::from_bytes(bytes);
    let value = metered::deserialize(&mut deserializer, MEMORY).ok()?;
    let rest = deserializer.finalize().ok()?;
    rest.is_empty().then_some(value)
}

/// The signed bytes of an envelope. They include the version, so that nobody can change it.
fn signed(version: u16, body: &[u8]) -> Vec<u8> {
    [&LETTERS, version.to_le_bytes().as_slice(), body].concat()
}

/// Seals a message in a signed envelope.
pub fn seal<T: LinkMessage>(message: &T, key: &SigningKey) -> Result<Vec<u8>, LinkError> {
    let message = postcard::to_stdvec(message).map_err(|_| LinkError::Torn)?;
    let body = zstd::bulk::compress(&message, zstd::DEFAULT_COMPRESSION_LEVEL);
    let body = body.map_err(|_| LinkError::Torn)?;
    let signature = key.sign(&signed(T::VERSION, &body)).to_bytes();
    Ok([
        &LETTERS,
        T::VERSION.to_le_bytes().as_slice(),
        &signature,
        &body,
    ]
    .concat())
}

/// Opens an envelope. `who` names the owner of `key` in errors.
///
/// # Errors
/// The envelope is incomplete, of a later version, or not signed with the key.
pub fn open<T: LinkMessage>(
    envelope: &[u8],
    key: &VerifyingKey,
    who: &str,
) -> Result<T, LinkError> {
    open_by(envelope, [key], who).map(|(message, _)| message)
}

/// Opens an envelope that is signed with one of `keys`; returns that key too.
pub(crate) fn open_by<'k, T: LinkMessage>(
    envelope: &[u8],
    keys: impl IntoIterator<Item = &'k VerifyingKey>,
    who: &str,
) -> Result<(T, &'k VerifyingKey), LinkError> {
    let (version, signature, body) = parts::<T>(envelope)?;
    let signed = signed(version, body);
    let mut keys = keys.into_iter();
    let key = keys
        .find(|key| key.verify_strict(&signed, &signature).is_ok())
        .ok_or_else(|| LinkError::Signature(who.to_string()))?;
    let message = content(version, body).ok_or(LinkError::Torn)?;
    Ok((message, key))
}

/// The message in an envelope whose signature is not checked, if it is complete. It tells a message
/// under a new key from bytes that nobody can read, and nothing else may rely on it.
pub(crate) fn unverified<T: LinkMessage>(envelope: &[u8]) -> Option<T> {
    let (version, _, body) = parts::<T>(envelope).ok()?;
    content(version, body)
}

/// Version, signature and body of an envelope.
fn parts<T: LinkMessage>(envelope: &[u8]) -> Result<(u16, Signature, &[u8]), LinkError> {
    let (head, body) = envelope.split_at_checked(HEAD).ok_or(LinkError::Torn)?;
    let (letters, rest) = head.split_at(LETTERS.len());
    if letters != LETTERS {
        return Err(LinkError::Torn);
    }
    let (version, signature) = rest.split_at(2);
    let found = version.try_into().map_or(0, u16::from_le_bytes);
    if found > T::VERSION {
        return Err(LinkError::Newer { found });
    }
    let signature: [u8; SIGNATURE] = signature.try_into().map_err(|_| LinkError::Torn)?;
    Ok((found, Signature::from_bytes(&signature), body))
}

/// The message in a body, if it is complete.
fn content<T: LinkMessage>(version: u16, body: &[u8]) -> Option<T> {
    let mut message = Vec::new();
    let decoder = zstd::Decoder::new(body).ok()?;
    // A message that is cut here cannot be decoded.
    decoder.take(LARGEST).read_to_end(&mut message).ok()?;
    T::decode(version, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl LinkMessage for String {
        const VERSION: u16 = 1;

        fn decode(_: u16, bytes: &[u8]) -> Option<String> {
            decode_whole(bytes)
        }
    }

    #[test]
    fn only_a_sealed_message_is_opened() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let sealed = seal(&"a message".to_string(), &key).unwrap();
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
