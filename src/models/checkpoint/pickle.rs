//! Python's pickle format as far as torch writes it: what a file says is kept as a graph, nothing of it is run.
//!
//! Objects lie in one list and name each other by number, so that a file that refers to itself, or nests without end, costs
//! no more than its length.
//!
//! Source: `CPython` 3.14, `Lib/pickletools.py`, protocols 2 to 4.

use std::collections::HashMap;

/// Objects that one pickle may have: a checkpoint with its optimiser's state has some ten thousand.
const MAX_NODES: usize = 1 << 22;

/// The place of an object in its [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(usize);

impl Id {
    /// Whether the file has this object before the other: going from one to the next such comes to an end.
    pub fn is_before(self, other: Self) -> bool {
        self.0 < other.0
    }
}

/// An object.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Int(i64),
    Text(&'a str),
    /// A class or a function.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// A tuple or a list.
    Items(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// What the file keeps outside the pickle, by its description.
    Persistent(Id),
    /// What calling a class or a function would make, and the state that is given to it then.
    Made {
        callable: Id,
        arguments: Id,
        state: Option<Id>,
    },
    /// `None`, booleans, floats, bytes, sets: nothing that leads to a tensor.
    Other,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that `bytes` begins with; also returns its length in bytes.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, usize), String> {
        let mut machine =
            Machine { bytes, at: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok((Self { nodes: machine.nodes, root }, machine.at))
    }

    /// The object that the pickle is of.
    pub fn root(&self) -> Id {
        self.root
    }

    pub fn node(&self, id: Id) -> &Node<'a> {
        self.nodes.get(id.0).unwrap_or(&Node::Other)
    }

    /// Every object.
    pub fn nodes(&self) -> impl Iterator<Item = &Node<'a>> {
        self.nodes.iter()
    }

    pub fn text(&self, id: Id) -> Option<&'a str> {
        if let Node::Text(text) = self.node(id) { Some(text) } else { None }
    }

    /// A whole number from 0 on.
    pub fn count(&self, id: Id) -> Option<usize> {
        if let Node::Int(number) = self.node(id) { usize::try_from(*number).ok() } else { None }
    }

    /// Whole numbers from 0 on.
    pub fn counts(&self, id: Id) -> Option<Vec<usize>> {
        self.items(id)?.iter().map(|&id| self.count(id)).collect()
    }

    /// Module and name.
    pub fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        if let Node::Global { module, name } = self.node(id) { Some((module, name)) } else { None }
    }

    pub fn items(&self, id: Id) -> Option<&[Id]> {
        if let Node::Items(items) = self.node(id) { Some(items) } else { None }
    }

    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Node::Dict(pairs) = self.node(id) { Some(pairs) } else { None }
    }
}

/// The machine that pickles are programs of.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// One instruction; `false` after the last.
    fn step(&mut self) -> Result<bool, String> {
        match self.byte()? {
            b'.' => return Ok(false),
            // Protocol and frames say nothing about objects.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => self.keep(self.memo.len() as u64)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            instruction @ (b'a' | 0x90 | b'e' | b's' | b'u' | b'b') => self.change(instruction)?,
            instruction => {
                let node = self.make(instruction)?;
                self.push(node)?;
            }
        }
        Ok(true)
    }

    /// What an instruction that makes an object makes.
    fn make(&mut self, instruction: u8) -> Result<Node<'a>, String> {
        Ok(match instruction {
            b'N' | 0x88 | 0x89 | 0x8f => Node::Other,
            b'K' => Node::Int(self.number(1)? as i64),
            b'M' => Node::Int(self.number(2)? as i64),
            b'J' => Node::Int(i64::from(self.number(4)? as u32 as i32)),
            0x8a => self.long()?,
            b'G' => self.skip(8)?,
            b'X' | b'T' => self.string(4)?,
            0x8c | b'U' => self.string(1)?,
            0x8d => self.string(8)?,
            b'C' => self.bytes(1)?,
            b'B' => self.bytes(4)?,
            0x8e => self.bytes(8)?,
            b')' | b']' => Node::Items(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b't' | b'l' => Node::Items(self.pop_to_mark()?),
            b'd' => Node::Dict(pairs(&self.pop_to_mark()?)?),
            0x85..=0x87 => {
                let first = self.stack.len().checked_sub(usize::from(instruction - 0x84)).ok_or(EMPTY)?;
                Node::Items(self.stack.split_off(first))
            }
            b'c' => Node::Global { module: self.line()?, name: self.line()? },
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id: Id| match self.nodes.get(id.0) {
                    Some(Node::Text(text)) => Ok(*text),
                    _ => Err("it names a class by no text".to_owned()),
                };
                Node::Global { module: text(module)?, name: text(name)? }
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)
            }
            0x92 => {
                let (_keywords, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(callable, arguments)
            }
            b'Q' => Node::Persistent(self.pop()?),
            other => return Err(format!("it has an instruction that torch does not write ({other:#04x})")),
        })
    }

    /// Instructions that add to an object below them on the stack.
    fn change(&mut self, instruction: u8) -> Result<(), String> {
        let added = match instruction {
            b'a' | b'b' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_to_mark()?,
        };
        let below = *self.stack.last().ok_or(EMPTY)?;
        match (instruction, self.nodes.get_mut(below.0)) {
            (b'a' | b'e', Some(Node::Items(items))) => items.extend(added),
            (b's' | b'u', Some(Node::Dict(dict))) => dict.extend(pairs(&added)?),
            (b'b', Some(Node::Made { state, .. })) => *state = added.first().copied(),
            // Sets, attributes of dicts, objects of classes that are dicts or lists.
            _ => {}
        }
        Ok(())
    }

    fn call(&self, callable: Id, arguments: Id) -> Node<'a> {
        match self.nodes.get(callable.0) {
            Some(Node::Global { module: "collections", name: "OrderedDict" | "defaultdict" }) => Node::Dict(Vec::new()),
            _ => Node::Made { callable, arguments, state: None },
        }
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), String> {
        if self.nodes.len() == MAX_NODES {
            return Err(format!("it has more than {MAX_NODES} objects"));
        }
        self.stack.push(Id(self.nodes.len()));
        self.nodes.push(node);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        Ok(self.stack.pop().ok_or(EMPTY)?)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or(EMPTY)?;
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, width: usize) -> Result<(), String> {
        let place = self.number(width)?;
        self.keep(place)
    }

    fn keep(&mut self, place: u64) -> Result<(), String> {
        self.memo.insert(place, *self.stack.last().ok_or(EMPTY)?);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), String> {
        let place = self.number(width)?;
        self.stack.push(*self.memo.get(&place).ok_or("it refers to an object that it does not have")?);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?.first().copied().unwrap_or(0))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).ok_or(CUT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(taken)
    }

    /// Little-endian, of up to 8 bytes.
    fn number(&mut self, width: usize) -> Result<u64, String> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }

    /// An integer of any length, of which eight bytes are enough.
    fn long(&mut self) -> Result<Node<'a>, String> {
        let width = usize::from(self.byte()?);
        if width > 8 {
            return self.skip(width);
        }
        let number = self.number(width)? as i64;
        // Two's complement.
        let unused = 64 - 8 * width as u32;
        Ok(Node::Int(number.checked_shl(unused).map_or(0, |number| number >> unused)))
    }

    fn skip(&mut self, count: usize) -> Result<Node<'a>, String> {
        self.take(count).map(|_| Node::Other)
    }

    /// `width`: bytes of the length.
    fn bytes(&mut self, width: usize) -> Result<Node<'a>, String> {
        let length = usize::try_from(self.number(width)?).map_err(|_| CUT)?;
        self.skip(length)
    }

    fn string(&mut self, width: usize) -> Result<Node<'a>, String> {
        let length = usize::try_from(self.number(width)?).map_err(|_| CUT)?;
        Ok(std::str::from_utf8(self.take(length)?).map_or(Node::Other, Node::Text))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).ok_or(CUT)?;
        let line = self.take(length + 1)?.get(..length).unwrap_or_default();
        std::str::from_utf8(line).map_err(|_| "it names a class by no text".to_owned())
    }
}

const CUT: &str = "it is cut off";
const EMPTY: &str = "it is damaged: an instruction lacks what it works on";

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, []) = items.as_chunks::<2>() else { return Err("it has a key without a value".to_owned()) };
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(bytes: &[u8]) -> Option<i64> {
        let (pickle, _) = Pickle::read(bytes).ok()?;
        if let Node::Int(number) = pickle.node(pickle.root()) { Some(*number) } else { None }
    }

    /// What `pickle.dumps` writes of these numbers.
    #[test]
    fn whole_numbers_of_every_width_are_read() {
        assert_eq!(int(b"\x80\x02K\xff."), Some(255));
        assert_eq!(int(b"\x80\x02M\x00\x01."), Some(256));
        assert_eq!(int(b"\x80\x02J\xff\xff\xff\xff."), Some(-1));
        assert_eq!(int(b"\x80\x02\x8a\x05\x00\x00\x00\x00\x01."), Some(1 << 32));
        assert_eq!(int(b"\x80\x02\x8a\x05\x00\x00\x00\x00\xff."), Some(-(1 << 32)));
        assert_eq!(int(b"\x80\x02\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."), Some(i64::MAX));
        assert_eq!(int(b"\x80\x02\x8a\x00."), Some(0));
        assert_eq!(int(b"\x80\x02\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01."), None);
    }

    #[test]
    fn what_is_added_to_an_object_later_is_seen_wherever_it_is_referred_to() {
        // `d = {}; d["a"] = d`: a dict that holds itself.
        let (pickle, length) = Pickle::read(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s. rest").unwrap();
        assert_eq!(length, 15);
        let [(key, value)] = pickle.dict(pickle.root()).unwrap() else { panic!("{pickle:?}") };
        assert_eq!((pickle.text(*key), *value), (Some("a"), pickle.root()));
    }

    #[test]
    fn protocol_4_is_read() {
        // `pickle.dumps({"a": (1, 2)}, 4)`
        let bytes = b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01K\x02\x86\x94s.";
        let (pickle, _) = Pickle::read(bytes).unwrap();
        let [(_, value)] = pickle.dict(pickle.root()).unwrap() else { panic!("{pickle:?}") };
        assert_eq!(pickle.counts(*value), Some(vec![1, 2]));
    }

    /// Objects that double at every step, and tuples that nest a million deep: both are small graphs.
    #[test]
    fn hostile_graphs_cost_no_more_than_their_length() {
        let doubling = [&b"\x80\x02]q\x00"[..], &b"h\x00h\x00\x86q\x00".repeat(5000), b"."].concat();
        assert!(Pickle::read(&doubling).is_ok());
        let deep = [&b"\x80\x02)"[..], &b"\x85".repeat(1 << 20), b"."].concat();
        assert!(Pickle::read(&deep).is_ok());
        let many = [&b"\x80\x02"[..], &b"N".repeat(MAX_NODES + 1), b"."].concat();
        assert!(Pickle::read(&many).unwrap_err().contains("more than"));
        for bad in [
            &b""[..],
            b"X\xff\xff\xff\xff",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
            b".",
            b"t.",
            b"(a.",
            b"h\x07.",
            b"cno line",
        ] {
            assert!(Pickle::read(bad).is_err(), "{bad:?}");
        }
    }
}
