//! The files of the program that have code for particular processors and need no model; see ../../README.md.

#![allow(dead_code, unused_imports)]

pub mod compute;
pub mod index;
