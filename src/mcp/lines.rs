//! Input lines of bounded length.

use std::io::{self, BufRead, BufReader, Read};

/// Longest line that is read as a message, bytes. rmcp's own limit for both transports.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// How much of the ends of an overlong line is kept, bytes; enough to find the request's id in either of them.
const KEPT_BYTES: usize = 4096;

/// One line of input, without its line break.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// A line within the limit.
    Whole(Vec<u8>),
    /// A line over the limit: what it began and ended with.
    TooLong {
        /// Its first bytes.
        head: Vec<u8>,
        /// Its last bytes.
        tail: Vec<u8>,
    },
}

/// Reads lines without ever holding more than the limit.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    max_bytes: usize,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R, max_bytes: usize) -> Self {
        Self { input: BufReader::with_capacity(64 * 1024, input), max_bytes }
    }

    /// The next line; a last one without a line break counts. `None` at the end of input.
    ///
    /// # Errors
    /// The input cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let limit = self.max_bytes as u64 + 1;
        if self.input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(Some(Line::Whole(line)));
        }
        if line.len() <= self.max_bytes {
            return Ok(Some(Line::Whole(line)));
        }
        let tail = self.skip_rest(last_bytes(&line).to_vec())?;
        line.truncate(KEPT_BYTES);
        line.shrink_to_fit();
        Ok(Some(Line::TooLong { head: line, tail }))
    }

    /// Passes over the rest of a line and returns its last bytes.
    fn skip_rest(&mut self, mut tail: Vec<u8>) -> io::Result<Vec<u8>> {
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = available.split_at(end.unwrap_or(available.len())).0;
            tail.extend_from_slice(last_bytes(taken));
            tail.drain(..tail.len().saturating_sub(KEPT_BYTES));
            let consumed = taken.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            if end.is_some() || consumed == 0 {
                return Ok(tail);
            }
        }
    }
}

fn last_bytes(bytes: &[u8]) -> &[u8] {
    bytes.split_at(bytes.len().saturating_sub(KEPT_BYTES)).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(input: &[u8], max_bytes: usize) -> Vec<Line> {
        let mut lines = Lines::new(input, max_bytes);
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn lines_end_at_line_breaks_and_at_the_end_of_input() {
        let whole = |text: &str| Line::Whole(text.into());
        assert_eq!(read_all(b"a\n\nbc", 10), [whole("a"), whole(""), whole("bc")]);
        assert_eq!(read_all(b"", 10), []);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_byte_more_is_not() {
        assert_eq!(read_all(b"12345\nx\n", 5), [Line::Whole(b"12345".into()), Line::Whole(b"x".into())]);
        let cut = Line::TooLong { head: b"123456".into(), tail: b"123456".into() };
        assert_eq!(read_all(b"123456\nx\n", 5), [cut, Line::Whole(b"x".into())]);
    }

    #[test]
    fn both_ends_of_an_overlong_line_are_kept() {
        let input = [b"{\"id\":1,".as_slice(), &vec![b'.'; 300_000], b"\"id\":2}\nnext"].concat();
        let lines = read_all(&input, 100_000);
        let Some(Line::TooLong { head, tail }) = lines.first() else { panic!("{lines:?}") };
        assert!(head.starts_with(b"{\"id\":1") && head.len() == KEPT_BYTES);
        assert!(tail.ends_with(b"\"id\":2}") && tail.len() == KEPT_BYTES);
        assert_eq!(lines.get(1), Some(&Line::Whole(b"next".into())));
    }
}
