// Makes calls a container may not make (and some it may) and prints how each ends. Built statically by tests/sandbox.rs.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void tell(const char *name, long result) {
    if (result >= 0) printf("%s ok\n", name);
    else if (errno == EPERM) printf("%s EPERM\n", name);
    else if (errno == ENOSYS) printf("%s ENOSYS\n", name);
    else printf("%s errno %d\n", name, errno);
}

int main(void) {
    tell("mount", syscall(SYS_mount, "x", "/tmp", "tmpfs", 0, ""));
    tell("umount2", syscall(SYS_umount2, "/proc", 2));
    tell("unshare", syscall(SYS_unshare, 0x10000000));
    tell("setns", syscall(SYS_setns, -1, 0));
    tell("clone-newuser", syscall(SYS_clone, 0x10000000 | 17, 0, 0, 0, 0));
    tell("clone3", syscall(SYS_clone3, 0, 0));
    tell("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    tell("add_key", syscall(SYS_add_key, "user", "a", "b", 1, -3));
    tell("bpf", syscall(SYS_bpf, 0, 0, 0));
    tell("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    tell("init_module", syscall(SYS_init_module, 0, 0, ""));
    tell("perf_event_open", syscall(SYS_perf_event_open, 0, 0, -1, -1, 0));
    tell("userfaultfd", syscall(SYS_userfaultfd, 0));
    tell("io_uring_setup", syscall(SYS_io_uring_setup, 0, 0));
    tell("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, 0, 0));
    tell("pivot_root", syscall(SYS_pivot_root, "/", "/"));
    tell("socket-vsock", syscall(SYS_socket, 40, SOCK_STREAM, 0));
    tell("personality", syscall(SYS_personality, 0x0400000));
    tell("unknown-999", syscall(999));
    tell("getpid", syscall(SYS_getpid));
    tell("socket-inet", syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    tell("chroot", syscall(SYS_chroot, "/"));
    printf("no-new-privileges %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    return 0;
}
