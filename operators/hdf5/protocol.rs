//! What the main process and the reader process say to each other, and how it is framed.
//!
//! A message is the length of its JSON (u32), the length of its body (u64), both little-endian, the JSON, the body. The body
//! holds what would be slow as JSON: chunk indices and values. Neither side believes a length before it has compared it
//! with a bound of its own.

use super::header::Header;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{Error, ErrorKind, Read, Result, Write};

/// What the main process asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The version of the library.
    Version,
    /// The header of a file.
    Header {
        /// The file.
        path: String,
    },
    /// The chunk index of a dataset: for each chunk its offset (u64 an axis), address, size and filter mask (u64 each).
    Index {
        /// The file.
        path: String,
        /// The dataset.
        dataset: String,
    },
    /// Rows of a dataset (of a member of its records) as little-endian numbers in C order.
    Rows {
        /// The file.
        path: String,
        /// The dataset.
        dataset: String,
        /// The member, where the elements are records.
        member: Option<String>,
        /// The first row; 0 for a single value.
        first: u64,
        /// How many; 1 for a single value.
        rows: u64,
    },
    /// Texts or lists of a dataset (of a member of its records): for each element its bytes (u64), then all the bytes.
    Lists {
        /// The file.
        path: String,
        /// The dataset.
        dataset: String,
        /// The member, where the elements are records.
        member: Option<String>,
        /// The first row.
        first: u64,
        /// How many.
        rows: u64,
    },
}

/// What the reader process answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Still at it; chunks of an index so far are in the body.
    Progress,
    /// The version.
    Version(String),
    /// The header.
    Header(Header),
    /// The last chunks of the index are in the body.
    Index,
    /// The values are in the body.
    Rows,
    /// Lengths and values are in the body.
    Lists,
    /// They would take at least so many bytes, more than an answer may have.
    TooLarge(u64),
    /// The library refuses: the data are wrong, or something is not supported.
    Refused(String),
    /// The operating system refuses.
    Machine(String),
}

/// An answer with values is no longer, unless a single row of numbers is.
pub const ANSWER: u64 = 64 << 20;
/// Bytes of a chunk index that are sent at a time.
pub const PIECE: usize = 1 << 20;
/// JSON beyond this is not believed.
const MOST_JSON: u32 = 1 << 26;

/// Sends one message.
pub fn send(to: &mut impl Write, message: &impl Serialize, body: &[u8]) -> Result<()> {
    let json = serde_json::to_vec(message)?;
    let mut head = Vec::with_capacity(12 + json.len());
    head.extend_from_slice(&u32::try_from(json.len()).map_err(Error::other)?.to_le_bytes());
    head.extend_from_slice(&(body.len() as u64).to_le_bytes());
    head.extend_from_slice(&json);
    to.write_all(&head)?;
    to.write_all(body)?;
    to.flush()
}

/// Receives one message whose body is at most `most` bytes long.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read, most: u64) -> Result<(T, Vec<u8>)> {
    let mut lengths = [0u8; 12];
    from.read_exact(&mut lengths)?;
    let json = u32::from_le_bytes(lengths[..4].try_into().map_err(Error::other)?);
    let body = u64::from_le_bytes(lengths[4..].try_into().map_err(Error::other)?);
    if json > MOST_JSON || body > most {
        return Err(Error::new(ErrorKind::InvalidData, format!("a message of {json} + {body} bytes")));
    }
    let mut text = vec![0; json as usize];
    from.read_exact(&mut text)?;
    let message = serde_json::from_slice(&text)?;
    let mut bytes = vec![0; usize::try_from(body).map_err(Error::other)?];
    from.read_exact(&mut bytes)?;
    Ok((message, bytes))
}
