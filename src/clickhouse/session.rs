//! The client side of one native-protocol connection.
