//! Prints the page of the script API, or with `types` its definition file.
//!
//! `cargo run -p railwatch-script --example reference > scripts/README.md`

#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
fn main() {
    let types = std::env::args().nth(1).is_some_and(|arg| arg == "types");
    print!("{}", if types { railwatch_script::types() } else { railwatch_script::reference() });
}
