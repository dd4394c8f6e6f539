//! Any bytes in any pieces as what another server says: through [`Frames`], then to what they mean.

use crate::base::limits::{FRAME_BYTES, PREV_MAX};
use crate::wire::frame::{self, BadFrame, Frame, Frames};
use crate::wire::line::Flow;
use crate::wire::peer;

/// The first byte of `input` says how many bytes come at a time, and which frames are not taken at once; the
/// rest is what comes.
pub fn peer_frames(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else { return };
    let (step, every) = (1 + usize::from(first & 31), usize::from(first >> 5));
    let (want, end) = at_once(bytes);
    let (mut frames, mut got, mut asked) = (Frames::default(), Vec::new(), 0);
    let mut take = |frame: &[u8]| {
        asked += 1;
        let flow = match every {
            0 => Flow::Next,
            n if asked % n > 0 => Flow::Next,
            _ if asked % 2 == 0 => Flow::Again,
            _ => Flow::Pause,
        };
        if flow != Flow::Again {
            got.push(frame.to_vec());
        }
        flow
    };
    let (mut result, mut came) = (Ok(()), 0);
    for piece in bytes.chunks(step) {
        result = frames.feed(piece, &mut take);
        came += piece.len();
        assert!(frames.len() <= came);
        if result.is_err() {
            break;
        }
    }
    // Of two times that it is asked for, every frame is taken once.
    for _ in 0..=2 * want.len() {
        result = result.and_then(|()| frames.feed(b"", &mut take));
    }
    if result.is_ok() {
        let taken: usize = want.iter().map(|frame| 4 + frame.len()).sum();
        assert_eq!(frames.len(), bytes.len() - taken, "what is held is the frame that is not complete");
    }
    assert_eq!((got, result), (want, end));
    at_once(bytes).0.iter().for_each(|frame| understand(frame));
}

/// The frames of `bytes`, and whether what follows them begins one.
fn at_once(bytes: &[u8]) -> (Vec<Vec<u8>>, Result<(), BadFrame>) {
    let (mut rest, mut frames) = (bytes, Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk() {
        let n = u32::from_le_bytes(*length);
        if n == 0 || n as usize > FRAME_BYTES {
            return (frames, Err(BadFrame::Length(n)));
        }
        let Some((frame, behind)) = behind.split_at_checked(n as usize) else { break };
        frames.push(frame.to_vec());
        rest = behind;
    }
    (frames, Ok(()))
}

/// What a frame says, if anything, is something that can be said.
fn understand(bytes: &[u8]) {
    match frame::read(bytes) {
        Ok(Frame::Data(data)) => {
            let (end, text) = data.line.split_last().expect("a line has its end");
            assert!(*end == b'\n' && text.iter().all(|b| (0x20..0x80).contains(b)));
            let prev: Vec<_> = data.prev().collect();
            assert!(prev.len() <= PREV_MAX);
            let mut again = Vec::new();
            frame::data(&mut again, data.stream, data.seq, &prev, (data.line, b""));
            assert_eq!(&again[4..], bytes);
        }
        Ok(Frame::Control(body)) => {
            if let Ok(Some(message)) = peer::read(body) {
                let again = serde_json::to_vec(&message).expect("what was read can be written");
                assert_eq!(peer::read(&again), Ok(Some(message)));
            }
        }
        Ok(Frame::Ack(_)) | Err(_) => {}
    }
}
