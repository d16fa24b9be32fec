//! The search for scales that the encoders share.
//!
//! What is minimised is the squared error of the decoded values, each weighted by the importance of its column where a
//! caller gives one. Per group of elements (`group`): several scales are tried, each followed by the scale that fits its
//! codes best (least squares), and the best of these is improved while it moves. Per block of groups with integer
//! sub-scales (`block`): the sub-scales next to the rounded ones are tried on the decoded values, the block's f16 scales are
//! fitted to the outcome, and so on while the error falls.
//!
//! Groups lie side by side in lanes (`lanes`), so that no sum is taken across lanes, and arithmetic is plain binary32 in a
//! fixed order: the bytes depend on nothing but the values and their importance.

mod block;
mod group;
mod lanes;

pub(super) use block::{TooLarge, fit_affine_block, fit_scaled_block, fit_singles};
pub(super) use lanes::{Block, Iq4Levels, Signed, Singles, Unsigned};
