//! Huffman-coded coefficients.
//!
//! Source: ITU-T T.81, annexes C and F.

#![expect(clippy::inline_always, reason = "a call for every few bits would take longer than what it does")]

use super::idct::PLACE;

/// In place of a run, in an entry: what is no coefficient that was looked up whole. All are 64 and more, so that one
/// comparison tells them, and a run past the block's end too, from the ordinary case.
const END: u32 = 64;
const SKIP_16: u32 = 65;
/// The code is known, its value is longer than what was looked up; the symbol stands in its place.
const CODE_ONLY: u32 = 66;
/// The code itself is longer, or there is none such.
const LONG: u32 = 67;

/// What the next bits mean: bits to take (8 bits), run of zeros before the coefficient (8), its value (16, signed).
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    const fn new(bits: u32, run: u32, value: i32) -> Self {
        Self(bits | run << 8 | (value as u32) << 16)
    }

    #[inline(always)]
    fn bits(self) -> u32 {
        self.0 & 0xff
    }

    #[inline(always)]
    fn run(self) -> u32 {
        self.0 >> 8 & 0xff
    }

    #[inline(always)]
    fn value(self) -> i32 {
        self.0 as i32 >> 16
    }
}

/// Differences of DC coefficients are long, and there is one in a block.
pub(super) type DcTable = Table<9, { 1 << 9 }>;
/// Most AC coefficients fit with code and value; a larger table takes longer to make than a small picture gains.
pub(super) type AcTable = Table<11, { 1 << 11 }>;

/// A Huffman table that looks up `BITS` bits at once among `SIZE` entries, two to the `BITS`th.
pub(super) struct Table<const BITS: u32, const SIZE: usize> {
    entries: Box<[Entry; SIZE]>,
    /// By length: the first 16-bit word that is above all codes of that length.
    above: [u32; 17],
    /// By length: what to add to a code for its symbol's place.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl<const BITS: u32, const SIZE: usize> Table<BITS, SIZE> {
    /// Makes the codes; `None` when they do not fit into their lengths.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8], most: u8) -> Option<Self> {
        let mut table = Self {
            entries: Box::new([Entry::new(0, LONG, 0); SIZE]),
            above: [0; 17],
            offsets: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            table.offsets[length as usize] = place as i32 - code as i32;
            for &symbol in symbols.get(place..place + usize::from(count))? {
                if symbol > most {
                    return None;
                }
                if length <= BITS {
                    table.enter(code, length, symbol);
                }
                code += 1;
            }
            if code >= 1 << length {
                return None;
            }
            place += usize::from(count);
            table.above[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    /// Enters a code under all words that begin with it.
    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        let free = BITS - length;
        let (first, end) = ((code << free) as usize, ((code + 1) << free) as usize);
        let words = self.entries.get_mut(first..end).unwrap_or_default();
        let entry = match (u32::from(symbol >> 4), u32::from(symbol & 15)) {
            (0, 0) => Entry::new(length, END, 0),
            (15, 0) => Entry::new(length, SKIP_16, 0),
            (_, 0) => Entry::new(0, LONG, 0),
            (run, size) if size <= free => {
                for (value, words) in (0..).zip(words.chunks_mut(1 << (free - size))) {
                    let negative = if value < 1 << (size - 1) { 1 - (1 << size) } else { 0 };
                    words.fill(Entry::new(length + size, run, value + negative));
                }
                return;
            }
            _ => Entry::new(length, CODE_ONLY, i32::from(symbol)),
        };
        words.fill(entry);
    }

    #[inline(always)]
    fn entry(&self, bits: &Bits<'_>) -> Entry {
        self.entries[bits.peek(BITS) as usize & (SIZE - 1)]
    }

    /// The symbol and the length of the code that 16 bits begin with; `None` where there is no such code.
    #[cold]
    #[inline(never)]
    fn find(&self, word: u32) -> Option<(u8, u32)> {
        let length = (1..=16).find(|&length| self.above.get(length).is_some_and(|&above| word < above))?;
        let place = (word >> (16 - length)) as i32 + self.offsets.get(length)?;
        Some((*self.symbols.get(usize::try_from(place).ok()?)?, length as u32))
    }

    /// The next DC difference.
    #[inline(always)]
    pub(super) fn difference(&self, bits: &mut Bits<'_>) -> Option<i32> {
        bits.refill();
        let entry = self.entry(bits);
        if entry.run() == 0 {
            bits.take(entry.bits());
            return Some(entry.value());
        }
        let (symbol, length) = match entry.run() {
            END => (0, entry.bits()),
            CODE_ONLY => (entry.value() as u8, entry.bits()),
            _ => self.find(bits.peek(16))?,
        };
        bits.take(length);
        Some(bits.value(u32::from(symbol)))
    }

    /// The AC coefficients of a block, times their steps, put in their places. Returns whether there are any.
    ///
    /// A function of its own, since this loop is most of the work and wants all registers.
    #[inline(never)]
    #[target_feature(enable = "bmi1,bmi2")]
    pub(super) fn coefficients(&self, from: &mut Bits<'_>, steps: &[i32; 64], block: &mut [i16; 64]) -> Option<bool> {
        let (mut bits, mut next) = (*from, 1);
        'refilled: loop {
            bits.refill();
            // At least 56 bits are there: for two coefficients that are looked up, and a third of any length (31 bits).
            for _ in 0..3 {
                let entry = self.entry(&bits);
                let at = next + entry.run() as usize;
                if at > 63 {
                    if next == 64 || entry.run() == END {
                        bits.take(if next == 64 { 0 } else { entry.bits() });
                        *from = bits;
                        return Some(next > 1);
                    }
                    let (symbol, length) = match entry.run() {
                        CODE_ONLY => (entry.value() as u8, entry.bits()),
                        SKIP_16 => (0xf0, entry.bits()),
                        LONG => self.find(bits.peek(16))?,
                        _ => return None,
                    };
                    bits.take(length);
                    let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
                    next += run;
                    if size == 0 {
                        match run {
                            0 => {
                                *from = bits;
                                return Some(next > 1);
                            }
                            15 if next < 63 => next += 1,
                            _ => return None,
                        }
                    } else {
                        block[usize::from(*PLACE.get(next)?) & 63] = (bits.value(size) * steps[next & 63]) as i16;
                        next += 1;
                    }
                    continue 'refilled;
                }
                bits.take(entry.bits());
                block[usize::from(PLACE[at]) & 63] = (entry.value() * steps[at]) as i16;
                next = at + 1;
            }
        }
    }
}

/// The bytes from a place near the end, and zeros. Cold functions get values and no [`Bits`]: with its address given
/// away, the compiler would keep it in memory.
#[cold]
fn last_bytes(bytes: &[u8], at: usize) -> u64 {
    let mut last = [0; 8];
    for (place, byte) in last.iter_mut().zip(bytes.get(at..).unwrap_or_default()) {
        *place = *byte;
    }
    u64::from_be_bytes(last)
}

/// Compressed data between two markers, bit by bit. Past its end come zeros; [`Bits::left`] tells.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte to load.
    at: usize,
    /// The next bits, from the top.
    word: u64,
    /// How many of them are valid.
    valid: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, word: 0, valid: 0 }
    }

    /// Makes at least 56 bits valid.
    #[inline(always)]
    fn refill(&mut self) {
        let next = match self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => last_bytes(self.bytes, self.at),
        };
        // Bits of a byte that is valid in part are there already; the same bits come again.
        self.word |= next >> self.valid;
        self.at += ((63 - self.valid) >> 3) as usize;
        // 56 and what part of a byte there was.
        self.valid |= 0b11_1000;
    }

    #[inline(always)]
    fn peek(&self, count: u32) -> u32 {
        (self.word >> (64 - count)) as u32
    }

    #[inline(always)]
    fn take(&mut self, count: u32) {
        self.word <<= count;
        self.valid = self.valid.wrapping_sub(count);
    }

    /// A value of 0 to 15 bits: the upper half of their range is positive, the lower half negative.
    #[inline(always)]
    fn value(&mut self, size: u32) -> i32 {
        let bits = (self.word >> 1 >> (63 - size)) as i32;
        let negative = !((self.word as i64 >> 63) as i32);
        self.take(size);
        bits + (negative & (1 - (1 << size)))
    }

    /// Bits left; negative when more were taken than there are.
    pub(super) fn left(&self) -> i64 {
        8 * (self.bytes.len() as i64 - self.at as i64) + i64::from(self.valid)
    }
}

/// The compressed data of a scan without stuffing, cut at its restart markers.
pub(super) struct Segments {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Segments {
    /// Reads up to the end mark; `None` when there is none, or another marker comes before it.
    pub(super) fn read(mut scan: &[u8]) -> Option<Self> {
        let mut segments = Self { bytes: Vec::with_capacity(scan.len()), ends: Vec::new() };
        loop {
            let plain = memchr::memchr(0xff, scan)?;
            segments.bytes.extend_from_slice(scan.get(..plain)?);
            let marker = *scan.get(plain + 1)?;
            match marker {
                0 => segments.bytes.push(0xff),
                0xd0..=0xd7 if usize::from(marker & 7) == segments.ends.len() % 8 => {
                    segments.ends.push(segments.bytes.len());
                }
                0xd9 => {
                    segments.ends.push(segments.bytes.len());
                    return Some(segments);
                }
                _ => return None,
            }
            scan = scan.get(plain + 2..)?;
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// One of them.
    pub(super) fn get(&self, place: usize) -> Option<Bits<'_>> {
        let start = match place.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..*self.ends.get(place)?).map(Bits::new)
    }
}
