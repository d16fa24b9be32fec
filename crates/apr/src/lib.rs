//! apr
