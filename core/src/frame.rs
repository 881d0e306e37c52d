//! Length-framed JSON: a little-endian `u32` length, then so many bytes of JSON.
//!
//! The one framing of the plugin wire and the control socket. Blocking readers and writers use
//! [`read`] and [`write`]; asynchronous ones use [`encode`] and [`body_length`].

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// The largest body: 1 MiB.
pub const LARGEST_BODY: usize = 1 << 20;

/// Bytes of the length in front of a body.
pub const HEADER: usize = 4;

/// `message` as a whole frame.
///
/// # Errors
/// `InvalidData` if the message is larger than [`LARGEST_BODY`] or cannot be serialised.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let length = frame.len() - HEADER;
    if length > LARGEST_BODY {
        return Err(too_large(length));
    }
    let length = u32::try_from(length).map_err(|_| too_large(length))?;
    frame[..HEADER].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// The length of the body that follows `header`.
///
/// # Errors
/// `InvalidData` if it is over [`LARGEST_BODY`].
pub fn body_length(header: [u8; HEADER]) -> io::Result<usize> {
    let length = u32::from_le_bytes(header) as usize;
    if length > LARGEST_BODY {
        Err(too_large(length))
    } else {
        Ok(length)
    }
}

/// Parses a body.
///
/// # Errors
/// `InvalidData` if it is not JSON of the expected shape.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Writes one message.
///
/// # Errors
/// Those of [`encode`] and of the writer.
pub fn write<T: Serialize>(writer: &mut impl Write, message: &T) -> io::Result<()> {
    writer.write_all(&encode(message)?)?;
    writer.flush()
}

/// Reads one message; `None` at a clean end of the stream.
///
/// # Errors
/// `UnexpectedEof` inside a frame, `InvalidData` for a bad one, and those of the reader.
pub fn read<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<Option<T>> {
    read_body(reader)?.map(|body| decode(&body)).transpose()
}

/// Reads one message without parsing it; `None` at a clean end of the stream.
///
/// # Errors
/// `UnexpectedEof` inside a frame, `InvalidData` for one that is too large, and those of the reader.
pub fn read_body(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER];
    if reader.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut header[1..])?;
    let mut body = vec![0; body_length(header)?];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

fn too_large(length: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a message of {length} bytes; {LARGEST_BODY} at most"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_end_is_clean() {
        let mut bytes = Vec::new();
        write(&mut bytes, &("a", 1)).unwrap();
        write(&mut bytes, &("b", 2)).unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!(
            read::<(String, u8)>(&mut reader).unwrap(),
            Some(("a".into(), 1))
        );
        assert_eq!(
            read::<(String, u8)>(&mut reader).unwrap(),
            Some(("b".into(), 2))
        );
        assert_eq!(read::<(String, u8)>(&mut reader).unwrap(), None);
    }

    #[test]
    fn a_cut_frame_and_an_oversize_frame_are_errors() {
        let frame = encode(&"hello").unwrap();
        let cut = read::<String>(&mut &frame[..frame.len() - 1]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        let oversize = read::<String>(&mut &u32::MAX.to_le_bytes()[..]).unwrap_err();
        assert_eq!(oversize.kind(), io::ErrorKind::InvalidData);
        assert!(encode(&"x".repeat(LARGEST_BODY)).is_err());
    }
}
