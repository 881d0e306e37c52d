//! What the harness and the agent in the machine say to each other over a virtio serial port.
//!
//! A frame is a little-endian `u32` length of what follows, a `u32` job number, one byte of
//! [`Kind`] and the payload. Jobs run side by side; the harness picks their numbers.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Name of the virtio serial port.
pub const PORT: &str = "dev.lazarette.lab";

/// Longest payload either side sends.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Harness: are you there? The payload comes back in a [`Kind::Pong`].
    Ping = 1,
    /// Agent: here I am.
    Pong = 2,
    /// Harness: run a program; the payload is a [`Job`] in JSON.
    Run = 3,
    /// Harness: bytes for the program's standard input; an empty payload closes it.
    Stdin = 4,
    /// Agent: bytes the program wrote to its standard output.
    Stdout = 5,
    /// Agent: bytes the program wrote to its standard error.
    Stderr = 6,
    /// Agent: the program ended; the payload is its exit status as a decimal number
    /// (128 + the signal's number if a signal ended it), or 127 and the reason it did not start.
    Exit = 7,
    /// Harness: kill the job's process group.
    Kill = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> io::Result<Self> {
        Ok(match byte {
            1 => Self::Ping,
            2 => Self::Pong,
            3 => Self::Run,
            4 => Self::Stdin,
            5 => Self::Stdout,
            6 => Self::Stderr,
            7 => Self::Exit,
            8 => Self::Kill,
            other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("no frame is of kind {other}"),
                ));
            }
        })
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The job it belongs to.
    pub job: u32,
    /// What the payload is.
    pub kind: Kind,
    /// The payload, at most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Writes the frame in one go.
    ///
    /// # Errors
    /// When the port cannot be written.
    pub fn write(&self, port: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.payload.len() + 5).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(self.payload.len() + 9);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.job.to_le_bytes());
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.payload);
        port.write_all(&bytes)?;
        port.flush()
    }

    /// Reads the next frame.
    ///
    /// # Errors
    /// When the port cannot be read or what it gives is not a frame.
    pub fn read(port: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        port.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if !(5..=MAX_PAYLOAD + 5).contains(&length) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of {length} bytes"),
            ));
        }
        let mut job = [0; 4];
        port.read_exact(&mut job)?;
        let mut kind = [0];
        port.read_exact(&mut kind)?;
        let mut payload = vec![0; length - 5];
        port.read_exact(&mut payload)?;
        Ok(Self {
            job: u32::from_le_bytes(job),
            kind: Kind::from_byte(kind[0])?,
            payload,
        })
    }
}

/// A program to run in the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments; a program without `/` is looked up in the lab's PATH.
    pub argv: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_the_wire() {
        let frame = Frame {
            job: 7,
            kind: Kind::Stdout,
            payload: b"bytes\0and more".to_vec(),
        };
        let mut wire = Vec::new();
        frame.write(&mut wire).unwrap();
        assert_eq!(Frame::read(&mut wire.as_slice()).unwrap(), frame);
    }

    #[test]
    fn a_length_out_of_bounds_or_an_unknown_kind_is_an_error() {
        for length in [0u32, 4, MAX_PAYLOAD as u32 + 6, u32::MAX] {
            let mut wire = length.to_le_bytes().to_vec();
            wire.extend_from_slice(&[0; 64]);
            assert!(Frame::read(&mut wire.as_slice()).is_err(), "{length}");
        }
        let wire = [5, 0, 0, 0, 1, 0, 0, 0, 99];
        assert!(Frame::read(&mut wire.as_slice()).is_err());
    }
}
