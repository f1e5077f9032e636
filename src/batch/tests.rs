//! Tests of the sink against a naive model.
