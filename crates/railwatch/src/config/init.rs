//! The file that `railwatch init` writes.

/// A commented `railwatch.toml` to start from. It loads as it is: what needs a secret or a peer is commented out.
pub fn init() -> &'static str {
    include_str!("starter.toml")
}
