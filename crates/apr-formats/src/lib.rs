//! apr-formats
