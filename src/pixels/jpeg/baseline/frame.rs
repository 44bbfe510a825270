//! The markers of an ordinary photo: baseline, Huffman-coded, 8 bits, one scan of Y, Cb and Cr.
//!
//! Whatever is not certainly that gives `None`, and the library decodes it.
//!
//! Source: ITU-T T.81, annex B; the colour space is told as libjpeg does (jdapimin.c, `default_decompress_parms`).

use super::huffman::{AcTable, DcTable};

/// Bits that a DC difference has at most where samples have 8.
const LONGEST_DIFFERENCE: u8 = 11;

/// One of the three components.
pub(super) struct Component {
    /// Blocks in a minimum coded unit, across and down.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Quantisation steps in zigzag order.
    pub(super) steps: [i32; 64],
    pub(super) dc: DcTable,
    pub(super) ac: AcTable,
}

/// What the headers say, and where the compressed data start.
pub(super) struct Frame<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Y, Cb, Cr; both chroma components have one block in a minimum coded unit.
    pub(super) components: [Component; 3],
    /// Minimum coded units between restart markers; 0: there are none.
    pub(super) restart_interval: usize,
    /// From the compressed data to the end of the file.
    pub(super) scan: &'a [u8],
}

/// What a frame header says of a component.
#[derive(Clone, Copy, Default)]
struct Listed {
    id: u8,
    across: u8,
    down: u8,
    steps: u8,
}

/// Tables and facts seen so far.
#[derive(Default)]
struct Seen {
    steps: [Option<[i32; 64]>; 4],
    /// DC tables, then AC tables: counts and symbols.
    tables: [Option<([u8; 16], Vec<u8>)>; 8],
    size: Option<(usize, usize)>,
    listed: [Listed; 3],
    restart_interval: usize,
    jfif: bool,
    adobe_transform: Option<u8>,
}

impl<'a> Frame<'a> {
    /// Reads the headers of a file; `None` where it is not of the plain kind.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut seen = Seen::default();
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let [0xff, marker, high, low, ..] = *rest else { return None };
            if marker == 0xff {
                rest = &rest[1..];
                continue;
            }
            let length = usize::from(u16::from_be_bytes([high, low]));
            let segment = rest.get(4..2 + length)?;
            rest = rest.get(2 + length..)?;
            match marker {
                0xc0 | 0xc1 => seen.read_frame(segment)?,
                0xc4 => seen.read_huffman(segment)?,
                0xdb => seen.read_steps(segment)?,
                0xdd => seen.restart_interval = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
                0xda => return seen.start(segment, rest),
                0xe0 => seen.jfif |= segment.starts_with(b"JFIF\0") && segment.len() >= 14,
                0xee if segment.starts_with(b"Adobe") => seen.adobe_transform = Some(*segment.get(11)?),
                0xe1..=0xef | 0xfe => {}
                _ => return None,
            }
        }
    }
}

impl Seen {
    fn read_frame(&mut self, segment: &[u8]) -> Option<()> {
        let (&[8, h0, h1, w0, w1, 3], listed) = segment.split_first_chunk::<6>()? else { return None };
        let size = (usize::from(u16::from_be_bytes([w0, w1])), usize::from(u16::from_be_bytes([h0, h1])));
        if self.size.is_some() || size.0 == 0 || size.1 == 0 || listed.len() != 9 {
            return None;
        }
        self.size = Some(size);
        for (known, &[id, sampling, steps]) in self.listed.iter_mut().zip(listed.as_chunks::<3>().0) {
            *known = Listed { id, across: sampling >> 4, down: sampling & 15, steps };
        }
        let [y, cb, cr] = self.listed.map(|component| (component.across, component.down));
        (matches!(y, (1, 1) | (2, 1 | 2)) && cb == (1, 1) && cr == (1, 1)).then_some(())
    }

    fn read_huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let (symbols, rest) = rest.split_at_checked(counts.iter().map(|&count| usize::from(count)).sum())?;
            let place = match kind {
                0..=3 => kind,
                0x10..=0x13 => kind - 0x10 + 4,
                _ => return None,
            };
            *self.tables.get_mut(usize::from(place))? = Some((*counts, symbols.to_vec()));
            segment = rest;
        }
        Some(())
    }

    fn read_steps(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&place, rest)) = segment.split_first() {
            // A high half would say that the steps have 16 bits.
            let (steps, rest) = rest.split_first_chunk::<64>()?;
            *self.steps.get_mut(usize::from(place))? = Some(steps.map(i32::from));
            segment = rest;
        }
        Some(())
    }

    /// The scan's header, which ties components and tables together.
    fn start<'a>(self, segment: &[u8], scan: &'a [u8]) -> Option<Frame<'a>> {
        let &[3, id0, t0, id1, t1, id2, t2, 0, 63, 0] = segment else { return None };
        let (width, height) = self.size?;
        let ids = self.listed.map(|component| component.id);
        let luma_and_chroma = match (self.jfif, self.adobe_transform) {
            (true, _) | (false, Some(1)) => true,
            (false, None) => ids == [1, 2, 3],
            (false, Some(_)) => false,
        };
        if [id0, id1, id2] != ids || !luma_and_chroma {
            return None;
        }
        let component = |listed: Listed, tables: u8| {
            let coded = |place: u8| self.tables.get(usize::from(place))?.as_ref();
            let (dc, ac) = (coded(tables >> 4).filter(|_| tables >> 4 < 4)?, coded((tables & 15) + 4)?);
            Some(Component {
                across: usize::from(listed.across),
                down: usize::from(listed.down),
                steps: (*self.steps.get(usize::from(listed.steps))?)?,
                dc: DcTable::new(&dc.0, &dc.1, LONGEST_DIFFERENCE)?,
                ac: AcTable::new(&ac.0, &ac.1, u8::MAX)?,
            })
        };
        let [y, cb, cr] = self.listed;
        let components = [component(y, t0)?, component(cb, t1)?, component(cr, t2)?];
        Some(Frame { width, height, components, restart_interval: self.restart_interval, scan })
    }
}
