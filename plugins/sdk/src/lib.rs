//! What the author of a Lazarette storage plugin writes against.
