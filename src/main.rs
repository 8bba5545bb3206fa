//! Arguments → command → error printed once → exit code.

fn main() {
    println!("lpm {}", env!("CARGO_PKG_VERSION"));
}
