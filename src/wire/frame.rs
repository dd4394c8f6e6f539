//! Frames between servers: a length, a kind, a body.
//!
//! ```text
//!  length: u32  kind: u8  body: length - 1 bytes          numbers are little-endian
//!
//!  CONTROL  one JSON object, see [`super::peer`]
//!  DATA     stream: u64  seq: u64  n: u8  n × (stream: u64  seq: u64)  the broadcast line, LF included
//!  ACK      seq: u64     up to where the receiver holds the stream of the server it tells this
//! ```

use crate::base::id::StreamId;
use crate::base::limits::{FRAME_BYTES, PREV_MAX};
use crate::wire::line::Flow;

/// What one frame says, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A JSON body.
    Control(&'a [u8]),
    /// A broadcast.
    Data(Data<'a>),
    /// What is held of the receiver's own stream.
    Ack(u64),
}

/// One broadcast of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Whose.
    pub stream: StreamId,
    /// Which: the first is 1.
    pub seq: u64,
    /// What its sender said elsewhere before: pairs of 16 bytes, see [`Data::prev`].
    prev: &'a [u8],
    /// The finished line.
    pub line: &'a [u8],
}

impl<'a> Data<'a> {
    /// What must be applied before this, because its sender said it before on other servers.
    pub fn prev(&self) -> impl Iterator<Item = (StreamId, u64)> + 'a {
        self.prev.chunks_exact(16).map(|pair| (StreamId(word(pair, 0)), word(pair, 8)))
    }
}

/// Why bytes are no frame. The link they came on is closed: nothing after them can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// The length is 0 or above [`FRAME_BYTES`].
    Length(u32),
    /// No kind has this number.
    Kind(u8),
    /// The body is shorter than its kind needs, or names too many streams.
    Short,
    /// The broadcast is not one line: one LF at the end, no other byte below 0x20, none beyond ASCII.
    Line,
}

const CONTROL: u8 = 0;
const DATA: u8 = 1;
const ACK: u8 = 2;
/// Bytes before a frame's kind.
const LENGTH: usize = 4;

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// Reads a frame without its length, as [`Frames`] gives them.
pub fn read(frame: &[u8]) -> Result<Frame<'_>, BadFrame> {
    let (kind, body) = frame.split_first().ok_or(BadFrame::Short)?;
    match *kind {
        CONTROL => Ok(Frame::Control(body)),
        ACK if body.len() >= 8 => Ok(Frame::Ack(word(body, 0))),
        DATA => {
            let (head, rest) = body.split_at_checked(17).ok_or(BadFrame::Short)?;
            let n = usize::from(head[16]);
            let (prev, line) =
                rest.split_at_checked(16 * n).filter(|_| n <= PREV_MAX).ok_or(BadFrame::Short)?;
            let odd = |bytes: &[u8]| bytes.iter().fold(false, |odd, b| odd | (b.wrapping_sub(0x20) >= 0x60));
            match line.split_last() {
                Some((b'\n', text)) if !text.is_empty() && !text.chunks(256).any(odd) => {}
                _ => return Err(BadFrame::Line),
            }
            Ok(Frame::Data(Data { stream: StreamId(word(head, 0)), seq: word(head, 8), prev, line }))
        }
        ACK => Err(BadFrame::Short),
        other => Err(BadFrame::Kind(other)),
    }
}

/// Appends a control frame with this body.
pub fn control(out: &mut Vec<u8>, body: &impl serde::Serialize) {
    let start = begin(out, CONTROL);
    serde_json::to_writer(&mut *out, body).expect("a Vec takes every write, and keys are strings");
    end(out, start);
}

/// Appends a DATA frame. The line may come in two pieces.
pub fn data(out: &mut Vec<u8>, stream: StreamId, seq: u64, prev: &[(StreamId, u64)], line: (&[u8], &[u8])) {
    let start = begin(out, DATA);
    let prev = &prev[..prev.len().min(PREV_MAX)];
    out.extend_from_slice(&stream.0.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.push(prev.len() as u8);
    for (stream, seq) in prev {
        out.extend_from_slice(&stream.0.to_le_bytes());
        out.extend_from_slice(&seq.to_le_bytes());
    }
    out.extend_from_slice(line.0);
    out.extend_from_slice(line.1);
    end(out, start);
}

/// Appends an ACK frame.
pub fn ack(out: &mut Vec<u8>, seq: u64) {
    let start = begin(out, ACK);
    out.extend_from_slice(&seq.to_le_bytes());
    end(out, start);
}

fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    start
}

fn end(out: &mut [u8], start: usize) {
    let n = (out.len() - start - LENGTH) as u32;
    out[start..start + LENGTH].copy_from_slice(&n.to_le_bytes());
}

/// Finds the frames in a stream of bytes that comes in pieces.
#[derive(Debug, Default)]
pub struct Frames {
    /// Bytes not yet taken; from `at` on.
    held: Vec<u8>,
    at: usize,
}

impl Frames {
    /// Takes bytes and gives each complete frame, without its length, to `take`. When that does not answer
    /// [`Flow::Next`] the rest is kept; feed nothing to go on. With [`Flow::Again`] the frame itself is
    /// given again.
    ///
    /// # Errors
    /// Bytes that cannot begin a frame; nothing that follows them can be understood.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8]) -> Flow) -> Result<(), BadFrame> {
        self.held.extend_from_slice(bytes);
        while let Some(length) = self.held.get(self.at..self.at + LENGTH) {
            let length = u32::from_le_bytes(std::array::from_fn(|i| length[i]));
            if length == 0 || length as usize > FRAME_BYTES {
                return Err(BadFrame::Length(length));
            }
            let from = self.at + LENGTH;
            let Some(frame) = self.held.get(from..from + length as usize) else { break };
            let flow = take(frame);
            if flow != Flow::Again {
                self.at = from + length as usize;
            }
            if flow != Flow::Next {
                break;
            }
        }
        if self.at == self.held.len() || self.at > self.held.len() / 2 {
            self.held.drain(..self.at);
            self.at = 0;
        }
        Ok(())
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.held.len() - self.at
    }

    /// True when no bytes are held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"{\"a\":1}\n";

    #[test]
    fn frames_come_back_from_any_pieces() {
        let prev = [(StreamId(3), 9), (StreamId(4), 1)];
        let mut out = Vec::new();
        control(&mut out, &serde_json::json!({"x": 1}));
        data(&mut out, StreamId(7), 5, &prev, LINE.split_at(3));
        ack(&mut out, 12);
        for size in 1..out.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for piece in out.chunks(size) {
                frames
                    .feed(piece, |frame| {
                        got.push(frame.to_vec());
                        Flow::Next
                    })
                    .unwrap();
            }
            assert!(frames.is_empty());
            assert_eq!(read(&got[0]), Ok(Frame::Control(b"{\"x\":1}")));
            let Ok(Frame::Data(d)) = read(&got[1]) else { panic!("{got:?}") };
            assert_eq!((d.stream, d.seq, d.line), (StreamId(7), 5, LINE));
            assert!(d.prev().eq(prev));
            assert_eq!(read(&got[2]), Ok(Frame::Ack(12)));
        }
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        assert_eq!(Frames::default().feed(&[0; 4], |_| Flow::Next), Err(BadFrame::Length(0)));
        assert_eq!(Frames::default().feed(&[255; 4], |_| Flow::Next), Err(BadFrame::Length(u32::MAX)));
        assert_eq!(read(&[9, 1]), Err(BadFrame::Kind(9)));
        assert_eq!(read(&[ACK, 1]), Err(BadFrame::Short));
        for line in [&b""[..], b"\n", b"x", b"a\nb\n", b"a\r\n", b"\xe9\n", b"a\n\n"] {
            let mut out = Vec::new();
            data(&mut out, StreamId(1), 1, &[], (line, b""));
            assert_eq!(read(&out[LENGTH..]), Err(BadFrame::Line), "{line:?}");
        }
    }

    #[test]
    fn a_frame_can_be_held_back_and_given_again() {
        let mut out = Vec::new();
        ack(&mut out, 1);
        ack(&mut out, 2);
        let mut frames = Frames::default();
        frames.feed(&out, |_| Flow::Again).unwrap();
        let mut got = Vec::new();
        frames
            .feed(&[], |frame| {
                got.push(read(frame) == Ok(Frame::Ack(1)));
                Flow::Pause
            })
            .unwrap();
        assert_eq!((got, frames.len()), (vec![true], 13));
    }
}
