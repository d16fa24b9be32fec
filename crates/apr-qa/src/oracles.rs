//! Oracles: is this answer right, is this text garbage? They see the generated text and nothing else.

mod arithmetic;
mod garbage;

pub use arithmetic::{Question, answers, question};
pub use garbage::garbage;
