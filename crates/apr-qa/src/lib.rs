//! apr-qa
