//! The `strongroom` program: see `cli`.

fn main() -> std::process::ExitCode {
    strongroom::cli::main()
}
