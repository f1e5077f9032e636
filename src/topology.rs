//! Which CPUs exist, and which core does what on which of them.
