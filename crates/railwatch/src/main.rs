//! The `railwatch` program.

fn main() {
    std::process::exit(railwatch::cli::main());
}
