//! cgroup v2, on a machine that may have v1: the binary in a QEMU guest (scripts/guest.sh, tests/guest/init.sh).

use std::process::Command;

const CHECKS: [&str; 9] = ["start", "status", "import", "hello", "oom", "limits", "escape", "adopt", "gone"];

#[test]
fn pods_run_within_their_limits_on_cgroup_v2() {
    let missing = ["qemu-system-x86_64", "cpio", "busybox"].into_iter().find(|tool| !on_path(tool));
    if let Some(tool) = missing.or(cfg!(not(target_arch = "x86_64")).then_some("an x86-64 machine")) {
        println!("SKIPPED: the cgroup v2 guest needs {tool} (scripts/packages.sh test)");
        return;
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new(format!("{root}/scripts/guest.sh")).arg(env!("CARGO_BIN_EXE_entroos")).output().unwrap();
    let console = String::from_utf8_lossy(&output.stdout);
    let results: Vec<(&str, &str)> =
        console.lines().filter_map(|line| line.trim().strip_prefix("RESULT ")?.split_once(' ')).collect();
    for check in CHECKS.into_iter().chain(["done"]) {
        let found = results.iter().find(|(name, _)| *name == check).map(|(_, result)| *result);
        assert_eq!(
            found,
            Some("ok"),
            "check `{check}` in the guest\n--- console ---\n{console}\n--- errors ---\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn on_path(tool: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).exists()))
}
