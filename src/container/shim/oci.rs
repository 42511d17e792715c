//! The OCI specification of a container, as containerd would write it, and of a process that joins one.

use std::path::{Path, PathBuf};

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount,
    MountBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::super::spec::ContainerSpec;
use super::super::user::User;

/// Where programs are looked for when the image says nothing.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// containerd's default capabilities.
const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where the pod's files are, for the mounts.
pub struct Places<'a> {
    pub root: &'a Path,
    pub etc: &'a Path,
    pub shm: &'a Path,
    pub cgroup: &'a str,
}

pub fn container(spec: &ContainerSpec, process: Process, places: &Places) -> Result<Spec, OciSpecError> {
    let namespaces = [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup]
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect::<Result<Vec<_>, _>>()?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .cgroups_path(PathBuf::from(format!("/{}", places.cgroup)))
        .masked_paths(MASKED.map(String::from))
        .readonly_paths(READ_ONLY.map(String::from))
        .build()?;
    // Limits are set by us before libcontainer moves the process in; the filter is loaded by our executor.
    linux.set_resources(None).set_seccomp(None).set_devices(None);
    let mut oci = SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(places.root).readonly(spec.read_only_root).build()?)
        .mounts(mounts(places)?)
        .process(process)
        .linux(linux)
        .build()?;
    // The host name is the shim's: the container shares its UTS namespace.
    oci.set_hooks(None).set_hostname(None);
    Ok(oci)
}

pub fn process(args: &[String], env: &[String], cwd: &str, user: &User, tty: bool) -> Result<Process, OciSpecError> {
    let mut set: Capabilities = CAPABILITIES.into_iter().collect();
    // Loading the filter takes CAP_SYS_ADMIN; our executor gives it up for good before the program starts.
    set.insert(Capability::SysAdmin);
    let mut capabilities =
        LinuxCapabilitiesBuilder::default().bounding(set.clone()).effective(set.clone()).permitted(set).build()?;
    capabilities.set_inheritable(Some(Capabilities::new())).set_ambient(Some(Capabilities::new()));
    let ids = UserBuilder::default().uid(user.uid).gid(user.gid).additional_gids(user.groups.clone()).build()?;
    let mut process = ProcessBuilder::default()
        .args(args.to_vec())
        .env(env.to_vec())
        .cwd(if cwd.is_empty() { "/" } else { cwd })
        .user(ids)
        .terminal(tty)
        .capabilities(capabilities)
        .build()?;
    process.set_rlimits(None).set_no_new_privileges(None).set_oom_score_adj(None);
    Ok(process)
}

/// The environment a program gets: the caller's, and what every program expects.
pub fn environment(env: &[String], user: &User, hostname: &str, tty: bool) -> Vec<String> {
    let mut all = env.to_vec();
    let mut default = |name: &str, value: &str| {
        let given = all.iter().any(|entry| entry.split_once('=').is_some_and(|(n, _)| n == name));
        if !given {
            all.push(format!("{name}={value}"));
        }
    };
    default("PATH", DEFAULT_PATH);
    default("HOSTNAME", hostname);
    default("HOME", &user.home);
    if tty {
        default("TERM", "xterm");
    }
    all
}

fn mounts(places: &Places) -> Result<Vec<Mount>, OciSpecError> {
    let fixed: [(&str, &str, &str, &[&str]); 5] = [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    let mut mounts = Vec::new();
    for (target, kind, source, options) in fixed {
        let options = options.iter().map(ToString::to_string).collect::<Vec<_>>();
        mounts.push(MountBuilder::default().destination(target).typ(kind).source(source).options(options).build()?);
    }
    let binds: [(&str, PathBuf, &[&str]); 4] = [
        ("/dev/shm", places.shm.to_path_buf(), &["bind", "nosuid", "nodev", "noexec"]),
        ("/etc/hosts", places.etc.join("hosts"), &["bind"]),
        ("/etc/hostname", places.etc.join("hostname"), &["bind"]),
        ("/etc/resolv.conf", places.etc.join("resolv.conf"), &["bind"]),
    ];
    for (target, source, options) in binds {
        let options = options.iter().map(ToString::to_string).collect::<Vec<_>>();
        mounts.push(MountBuilder::default().destination(target).typ("bind").source(source).options(options).build()?);
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_sets_wins() {
        let user = User { uid: 0, gid: 0, groups: vec![], home: "/root".into() };
        let env = environment(&["PATH=/x".into(), "HOME=/y".into()], &user, "h", true);
        assert_eq!(env, ["PATH=/x", "HOME=/y", "HOSTNAME=h", "TERM=xterm"]);
        assert!(environment(&[], &user, "h", false).contains(&format!("PATH={DEFAULT_PATH}")));
    }

    /// libcontainer would set it on the shim itself.
    #[test]
    fn the_process_has_no_oom_score_and_no_limits_of_its_own() {
        let user = User { uid: 7, gid: 8, groups: vec![9], home: "/".into() };
        let process = process(&["a".into()], &[], "", &user, false).unwrap();
        assert_eq!((process.oom_score_adj(), process.rlimits(), process.no_new_privileges()), (None, &None, None));
        assert_eq!(process.cwd(), Path::new("/"));
    }
}
