//! apr-kernels
