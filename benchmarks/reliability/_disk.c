/* Preloaded into a process: counts the operations by which it changes files below a folder, and makes the n-th fail.
 *
 * arm(folder, n, error): from now on; n = 0 counts only. armed(): how many there were. A write that fails has put half
 * of its bytes on the disk before, as a full disk does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static volatile long count, chosen;
static int error;

void arm(const char *where, long n, int code) {
    count = 0, chosen = n, error = code;
    snprintf(folder, sizeof folder, "%s", where);
}

long armed(void) { return count; }

static int below(const char *path) {
    return folder[0] && path && !strncmp(path, folder, strlen(folder));
}

static int is_ours(int fd) {
    char link[64], path[4096];
    struct stat found;
    if (!folder[0] || fstat(fd, &found) || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static int fails(int ours) {
    if (!ours || __sync_add_and_fetch(&count, 1) != chosen) return 0;
    errno = error;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPENS(name)                                                                                    \
    int name(const char *path, int flags, ...) {                                                       \
        va_list more;                                                                                  \
        va_start(more, flags);                                                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;                      \
        va_end(more);                                                                                  \
        if (fails((flags & (O_WRONLY | O_RDWR | O_CREAT)) && below(path))) return -1;                  \
        return REAL(name)(path, flags, mode);                                                          \
    }

OPENS(open)
OPENS(open64)

ssize_t write(int fd, const void *data, size_t size) {
    __typeof__(&write) real = REAL(write);
    int saved;
    if (!fails(is_ours(fd))) return real(fd, data, size);
    saved = error;
    if (size > 1) real(fd, data, size / 2);
    errno = saved;
    return -1;
}

size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
    if (!fails(is_ours(fileno(file)))) return REAL(fwrite)(data, size, n, file);
    errno = error;
    return 0;
}

int fsync(int fd) { return fails(is_ours(fd)) ? -1 : REAL(fsync)(fd); }
int ftruncate(int fd, off_t size) { return fails(is_ours(fd)) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return fails(is_ours(fd)) ? -1 : REAL(ftruncate64)(fd, size); }
int rename(const char *from, const char *to) { return fails(below(to)) ? -1 : REAL(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { return fails(below(path)) ? -1 : REAL(mkdir)(path, mode); }
int chmod(const char *path, mode_t mode) { return fails(below(path)) ? -1 : REAL(chmod)(path, mode); }
int link(const char *from, const char *to) { return fails(below(to)) ? -1 : REAL(link)(from, to); }
ssize_t sendfile64(int, int, off64_t *, size_t);
ssize_t sendfile64(int to, int from, off64_t *offset, size_t n) {
    return fails(is_ours(to)) ? -1 : REAL(sendfile64)(to, from, offset, n);
}
ssize_t sendfile(int, int, off_t *, size_t);
ssize_t sendfile(int to, int from, off_t *offset, size_t n) {
    return fails(is_ours(to)) ? -1 : REAL(sendfile)(to, from, offset, n);
}
