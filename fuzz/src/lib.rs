//! The targets of `tests/fuzz/`, for cargo-fuzz.

#[path = "../../tests/fuzz/targets/mod.rs"]
pub mod targets;

/// Runs the target of that name.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = targets::TARGETS.iter().find(|(known, _)| *known == name).expect("a known target");
    target(data);
}
