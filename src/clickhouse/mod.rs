//! TODO
pub mod control;
pub mod embedded;
pub mod endpoint;
