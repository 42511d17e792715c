//! An image nobody here made: a Debian root by debootstrap, whose nginx and postgres start unmodified.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Node, SOON, eventually};

#[test]
fn nginx_and_postgres_start_unmodified() {
    require!("debootstrap", "curl");
    let node = Node::start();
    let image = node.dir().join("debian.tar");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/debian-image.sh");
    let made = Command::new(script).arg(&image).output().unwrap();
    assert!(made.status.success(), "{}", common::said(&made));
    node.ok(&["image", "import", image.to_str().unwrap()]);
    let pod = r#"{"metadata":{"name":"services"},"spec":{"restartPolicy":"Never","containers":[
        {"name":"web","image":"debian-services","command":["nginx","-g","daemon off;"]},
        {"name":"db","image":"debian-services","command":["sh","-c","v=$(ls /usr/lib/postgresql); pg_createcluster $v main && exec pg_ctlcluster $v main start --foreground"],"securityContext":{"runAsUser":0}}]}}"#;
    node.apply_json(pod);
    node.wait_pod("services", "running both", |pod| {
        pod["status"]["containerStatuses"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|c| c["state"]["running"].is_object()))
    });
    let exec = |container: &str, command: &[&str]| {
        let mut args = vec!["pod", "exec", "services", "-c", container, "--"];
        args.extend(command);
        node.entroos(&args)
    };
    // Debian's perl speaks HTTP without further packages.
    let get = "use IO::Socket::INET; my $s = IO::Socket::INET->new('127.0.0.1:80') or exit 1; print $s \"GET / HTTP/1.0\\r\\n\\r\\n\"; print <$s>;";
    let welcomed = || String::from_utf8_lossy(&exec("db", &["perl", "-e", get]).stdout).contains("Welcome to nginx");
    assert!(
        eventually(SOON, welcomed),
        "nginx does not answer: {}",
        common::said(&node.entroos(&["pod", "logs", "services", "-c", "web"]))
    );
    let asked = || {
        let output = exec("db", &["su", "postgres", "-c", "psql -tAc 'select 6*7'"]);
        String::from_utf8_lossy(&output.stdout).trim() == "42"
    };
    assert!(
        eventually(SOON, asked),
        "postgres does not answer: {}",
        common::said(&node.entroos(&["pod", "logs", "services", "-c", "db"]))
    );
}
