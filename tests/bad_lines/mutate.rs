//! Good lines, spoiled. Everything follows from the seed.

/// Lines as clients send them, of every command and with all that an activity may have in it.
const GOOD: [&str; 10] = [
    r#"{"command":"LOGIN","username":"anonymous","secret":null}"#,
    r#"{"command":"LOGIN","username":"bob","secret":"sek"}"#,
    r#"{"command":"REGISTER","username":"Zoë \ud83d\ude00","secret":"6ce9hb9gu1opamqtpj1s3vqvsh"}"#,
    r#"{"command":"LOGOUT"}"#,
    r#"{"command":"INVALID_MESSAGE","info":"no \"activity\""}"#,
    r#"{"command":"ACTIVITY_MESSAGE","username":"anonymous","activity":{"note":"hi"}}"#,
    r#"{"command":"ACTIVITY_MESSAGE","username":"bob","secret":"sek","activity":{"a":[1,-2.5e3,{"b":null}],"é":"日本 😀"}}"#,
    r#" {"activ\u0069ty" : {"authenticated_user":"eve","z":{"y":{"x":[[[]]]}}} ,"username":"anonymous","command":"ACTIVITY_MESSAGE"} "#,
    r#"{"command":"ACTIVITY_MESSAGE","username":"bob","secret":"sek","activity":{"n":9223372036854775807,"e":"\ud83d\ude00\/\n"}}"#,
    r#"{"x":{"command":"REDIRECT"},"command":"ACTIVITY_MESSAGE","secret":"","username":"anonymous","activity":{"authenticated\u005fuser":1}}"#,
];

/// What is put in somewhere.
const PIECES: [&[u8]; 36] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"-",
    b".",
    b"e",
    b" ",
    b"\t",
    b"\r",
    b"\0",
    b"\x1b",
    b"\x7f",
    b"\x80",
    b"\xe9",
    b"\xff",
    b"\xc3",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\\u",
    b"\\ud800",
    b"\\udc00",
    b"\\u0000",
    b"\\u000a",
    b"9223372036854775808",
    b"1e999",
    b"null",
    b"\"command\":\"LOGOUT\",",
    b"\"authenticated_user\":\"eve\",",
    b"\r{\"command\":\"REDIRECT\",\"hostname\":\"evil\",\"port\":1}\r",
    b"\"note\":",
];

/// Makes bad lines of good ones; some come out good after all.
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator(seed)
    }

    /// The next line, without its line end, and with no other LF.
    pub fn line(&mut self) -> Vec<u8> {
        let mut line = GOOD[self.below(GOOD.len())].as_bytes().to_vec();
        for _ in 0..=self.below(2) * self.below(4) {
            self.mutate(&mut line);
        }
        line.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b'\r');
        line
    }

    fn mutate(&mut self, line: &mut Vec<u8>) {
        let (at, to) = self.range(line.len());
        match self.below(11) {
            0 if at < line.len() => line[at] ^= 1 << self.below(8),
            1 if at < line.len() => line[at] = self.below(256) as u8,
            2 => line.truncate(at),
            3 => drop(line.drain(at..to)),
            4 => drop(line.splice(at..at, [self.below(256) as u8])),
            5 | 6 => drop(line.splice(at..at, PIECES[self.below(PIECES.len())].to_vec())),
            7 => drop(line.splice(at..at, line[at..to].to_vec())),
            8 => {
                // A member is said twice.
                let member = line
                    .iter()
                    .position(|byte| *byte == b',')
                    .map(|comma| line[1.min(comma)..=comma].to_vec());
                line.splice(1.min(line.len())..1.min(line.len()), member.unwrap_or_default());
            }
            9 => {
                let deep = self.below(60);
                let (open, close) = [("[", "]"), ("{\"x\":", "}")][self.below(2)];
                line.splice(to..to, close.repeat(deep).into_bytes());
                line.splice(at..at, open.repeat(deep).into_bytes());
            }
            _ => line[at..to].reverse(),
        }
    }

    /// A short range of a line of this length.
    fn range(&mut self, len: usize) -> (usize, usize) {
        let at = self.below(len + 1);
        (at, (at + self.below(12)).min(len))
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
