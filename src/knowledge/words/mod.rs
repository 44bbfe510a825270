//! The words of a request: tokens with their places, and the closed kinds that some of them belong to.

pub mod lexicon;
pub mod token;

pub use lexicon::{Class, class_of, class_of_word};
pub use token::{Kind, Token, tokenize};
