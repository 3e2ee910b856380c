//! Completions and manual pages: what they know of the command line.

use std::process::Command;

use support::{Bench, ended};

/// A script that prints what bash completes after `perennial kb`.
const COMPLETE: &str = r#"
source completions
COMP_WORDS=(perennial kb "") COMP_CWORD=2
_perennial perennial "" kb
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn shells_complete_commands() {
    let bench = Bench::new();
    let script = bench.run(&["completions", "bash"]).success().stdout;
    bench.write("completions", script);
    let mut bash = Command::new("bash");
    bash.args(["-c", COMPLETE]).current_dir(bench.path("."));
    let completed = ended(bash.output()).success().stdout;
    for name in ["tasks", "rollback", "forget", "--state"] {
        assert!(
            completed.lines().any(|line| line == name),
            "{name}: {completed}"
        );
    }
    for shell in ["zsh", "fish"] {
        let script = bench.run(&["completions", shell]).success().stdout;
        assert!(script.contains("rollback"), "{shell}");
    }
    bench.run(&["completions", "csh"]).failure(2, &["zsh"]);
}

#[test]
fn each_command_has_a_manual_page() {
    let bench = Bench::new();
    bench.run(&["man", "pages"]).success();
    let help = bench.run(&["--help"]).success().stdout;
    let (_, commands) = help.split_once("Commands:\n").expect("commands");
    let (commands, _) = commands.split_once("\n\n").expect("options");
    let mut count = 0;
    for line in commands.lines() {
        // Further lines of a command are indented.
        let Some(name) = line
            .strip_prefix("  ")
            .filter(|name| !name.starts_with(' '))
        else {
            continue;
        };
        let name = name.split(' ').next().expect("a name");
        let page = String::from_utf8(bench.read(&format!("pages/perennial-{name}.1")));
        let page = page.expect("text");
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        count += 1;
    }
    assert!(count > 10, "{help}");
    assert!(!bench.path("pages/perennial-examine.1").exists());
}
