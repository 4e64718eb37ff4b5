//! gRPC's frames as they come in pieces: `[compressed: 1 byte, length: 4 bytes, message]`.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes before each message.
pub(crate) const HEADER_BYTES: usize = 5;
/// A frame is held back as long as more than this is still to come, so that whoever reads it
/// allocates by what came and not by what was declared.
const HOLD_BYTES: usize = 1 << 20;

/// Takes whole messages out of the pieces of a body.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Adds a piece.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole message and whether it is compressed. `Err` with the declared length when
    /// it is over `length_max`.
    pub(crate) fn next(&mut self, length_max: usize) -> Result<Option<(bool, Bytes)>, usize> {
        let Some((compressed, length)) = header(&self.buffer) else { return Ok(None) };
        if length > length_max {
            return Err(length);
        }
        if self.buffer.len() - HEADER_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some((compressed, self.buffer.split_to(length).freeze())))
    }

    /// Whether a part of a message is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// Passes pieces on, big frames only when they are whole.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    held: VecDeque<Bytes>,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// Bytes of the current message that are still to come.
    left: usize,
}

impl Guard {
    /// Takes a piece; the pieces that may go on now are in `ready`.
    pub(crate) fn push(&mut self, piece: Bytes, ready: &mut VecDeque<Bytes>) {
        let mut rest: &[u8] = &piece;
        while !rest.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(rest.len());
                rest = &rest[taken..];
                self.left -= taken;
                continue;
            }
            let wanted = HEADER_BYTES - self.header_filled;
            let taken = wanted.min(rest.len());
            self.header[self.header_filled..self.header_filled + taken]
                .copy_from_slice(&rest[..taken]);
            self.header_filled += taken;
            rest = &rest[taken..];
            if self.header_filled == HEADER_BYTES {
                self.header_filled = 0;
                self.left = header(&self.header).map_or(0, |(_, length)| length);
            }
        }
        self.held.push_back(piece);
        if self.left <= HOLD_BYTES {
            ready.append(&mut self.held);
        }
    }

    /// What is left at the end of the body: a frame that was cut off.
    pub(crate) fn finish(&mut self, ready: &mut VecDeque<Bytes>) {
        ready.append(&mut self.held);
    }
}

fn header(bytes: &[u8]) -> Option<(bool, usize)> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let [flag, length @ ..] = *header;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    Some((flag != 0, length))
}

/// The header of a message of `length` bytes; `None` when it is too long for a frame.
pub(crate) fn frame_header(compressed: bool, length: usize) -> Option<[u8; HEADER_BYTES]> {
    let [a, b, c, d] = u32::try_from(length).ok()?.to_be_bytes();
    Some([u8::from(compressed), a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = frame_header(false, length).unwrap().to_vec();
        bytes.resize(HEADER_BYTES + length, 7);
        bytes
    }

    #[test]
    fn messages_come_out_whole_however_they_were_cut() {
        let bytes = [frame(3), frame(0), frame(10)].concat();
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut lengths = Vec::new();
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while let Some((_, message)) = frames.next(10).unwrap() {
                    lengths.push(message.len());
                }
            }
            assert_eq!(lengths, [3, 0, 10]);
            assert!(frames.is_empty());
        }
        let mut frames = Frames::default();
        frames.push(&frame_header(true, 11).unwrap());
        assert_eq!(frames.next(10), Err(11));
    }

    #[test]
    fn a_big_frame_is_held_until_most_of_it_came() {
        let mut guard = Guard::default();
        let bytes = [frame(3), frame(2 * HOLD_BYTES), frame(4)].concat();
        let mut passed = Vec::new();
        for piece in bytes.chunks(1000) {
            let mut ready = VecDeque::new();
            guard.push(Bytes::copy_from_slice(piece), &mut ready);
            passed.extend(ready.into_iter().flatten());
            let is_held = passed.len() <= 8 || passed.len() > HOLD_BYTES;
            assert!(is_held, "{} bytes were let through", passed.len());
        }
        assert_eq!(passed, bytes);
    }
}
