//! Envelopes: messages of the link, versioned and signed. Whoever opens one knows that it is whole, who sealed it, and that
//! it is understood.
//!
//! An envelope is four letters, the version of the protocol (u16, little-endian), a signature by Ed25519 (RFC 8032) of these and
//! what follows, and the message in postcard, compressed by Zstandard (RFC 8878).

use std::io::Read;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What each envelope begins with.
const LETTERS: [u8; 4] = *b"PRNL";
/// The version of what is in them.
const PROTOCOL: u16 = 1;
const SIGNATURE: usize = 64;
const HEAD: usize = LETTERS.len() + 2 + SIGNATURE;
/// The most bytes that a message may have once it is decompressed.
const LARGEST: u64 = 32 << 20;

/// What can be wrong with a message of the link, or with what it needs.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It is no message of the link, or not a whole one.
    #[error("it is no message of Perennial's, or a torn one")]
    Torn,
    /// It is of a later version.
    #[error(
        "it has version {found} of the protocol, and this program reads version {PROTOCOL}: bring this program up to date"
    )]
    Newer {
        /// The version that it has.
        found: u16,
    },
    /// Somebody else has signed it, or it was changed.
    #[error(
        "its signature is not that of {0}: somebody else has written it, or changed it on the way"
    )]
    Signature(String),
    /// It is of another task than its key says.
    #[error("its key is not that of the task that it is about")]
    Key,
    /// It is of another edge than its key says.
    #[error("its key is that of edge \"{key}\", and \"{said}\" is in it")]
    Edge {
        /// The edge of the key.
        key: String,
        /// The edge in it.
        said: String,
    },
    /// It is of an edge that nobody knows.
    #[error("edge \"{0}\" is not known: give its public key in link.edges")]
    UnknownEdge(String),
    /// It is older than what is known.
    #[error("it is older than what is known: a message that was sent before comes again")]
    Old,
    /// It was sent at another time than it can have been.
    #[error("it says that it was sent {0}: set the clocks right")]
    Clock(String),
    /// Its models or samples are of other columns.
    #[error("it is for samples of another schema: edge and cloud need the same schema and classes")]
    Schema,
    /// Its model is not what it says.
    #[error("its model does not match its hash")]
    Hash,
    /// Its model is in an object store, and none is known here.
    #[error("its model is in an object store: set link.store")]
    NoStore,
    /// No message can be so large.
    #[error(
        "it has {bytes} bytes, more than the topic takes: raise the topic's max.message.bytes, up to 32 MiB, or set link.store, \
         where large models go"
    )]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// The object store cannot be used.
    #[error("the object store {url}: {reason}")]
    Store {
        /// Where it is.
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

/// What the signature of an envelope is of: the version is part of it, so that nobody passes one for another.
fn signed(version: u16, body: &[u8]) -> Vec<u8> {
    [&LETTERS, version.to_le_bytes().as_slice(), body].concat()
}

/// Puts a message into an envelope.
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

/// Takes a message out of its envelope, which `who` has signed.
///
/// # Errors
/// It is torn, of a later version, or not signed with the key.
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
    // What is cut off there does not end where a message does.
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
    fn what_is_sealed_is_opened_and_nothing_else_is() {
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
        // Whatever byte is changed, it is told.
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
