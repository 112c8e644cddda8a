/* What a process does to the files below $DISK_ROOT, for tests of power cuts and of disks that fail.

   Loaded with LD_PRELOAD. With $DISK_LOG, every change and every sync is appended there as a record: a letter, a number, a
   position, two lengths, a path, bytes (see disk.py). With $DISK_FAIL=CALL:N, the Nth call of that kind there fails with EIO,
   and so does every later one on the same file: what a broken disk does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int out = -1, ready;
static char failing_call[32];
static long failing_at, calls;
static ino_t broken;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void begin(void) {
    if (ready) return;
    ready = 1;
    const char *where = getenv("DISK_ROOT"), *log = getenv("DISK_LOG"), *fail = getenv("DISK_FAIL");
    if (where) root_length = (size_t)snprintf(root, sizeof root, "%s/", where);
    if (log) out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fail) sscanf(fail, "%31[^:]:%ld", failing_call, &failing_at);
}

/* Whether a handle is of a file that counts; its path, without the mark of a deleted one. */
static int counts(int handle, char *path) {
    char link[64];
    begin();
    if (!root_length || handle == out) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    char *gone = strstr(path, " (deleted)");
    if (gone) *gone = 0;
    return !strncmp(path, root, root_length) && !strstr(path, "-shm") && !strstr(path, ".lock");
}

static void note(char kind, uint64_t number, int64_t at, const char *path, const void *bytes, size_t size) {
    if (out < 0) return;
    uint32_t lengths[2] = {(uint32_t)strlen(path), (uint32_t)size};
    struct iovec parts[] = {{&kind, 1}, {&number, 8}, {&at, 8}, {lengths, 8}, {(void *)path, lengths[0]}, {(void *)bytes, size}};
    if (writev(out, parts, 6) < 0) abort();
}

static int fails(const char *call, int handle) {
    struct stat about;
    if (!failing_at || fstat(handle, &about)) return 0;
    if (broken && about.st_ino == broken) { errno = EIO; return 1; }
    if (strcmp(call, failing_call) || ++calls != failing_at) return 0;
    broken = about.st_ino;
    errno = EIO;
    return 1;
}

static uint64_t inode(int handle) {
    struct stat about;
    return fstat(handle, &about) ? 0 : about.st_ino;
}

#define GUARDED(handle, call, fallback) \
    char path[PATH_MAX]; \
    if (!counts(handle, path)) return fallback; \
    pthread_mutex_lock(&lock); \
    if (fails(call, handle)) { pthread_mutex_unlock(&lock); return -1; }

#define DONE(result) int kept = errno; pthread_mutex_unlock(&lock); errno = kept; return result;

ssize_t write(int handle, const void *bytes, size_t size) {
    GUARDED(handle, "write", REAL(write)(handle, bytes, size))
    int appends = fcntl(handle, F_GETFL) & O_APPEND;
    off_t at = lseek(handle, 0, appends ? SEEK_END : SEEK_CUR);
    ssize_t result = REAL(write)(handle, bytes, size);
    if (result > 0) note('w', inode(handle), at, path, bytes, (size_t)result);
    DONE(result)
}

static ssize_t put(int handle, const void *bytes, size_t size, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    GUARDED(handle, "pwrite", real(handle, bytes, size, at))
    ssize_t result = real(handle, bytes, size, at);
    if (result > 0) note('w', inode(handle), at, path, bytes, (size_t)result);
    DONE(result)
}
ssize_t pwrite64(int handle, const void *bytes, size_t size, off_t at) { return put(handle, bytes, size, at); }
ssize_t pwrite(int handle, const void *bytes, size_t size, off_t at) { return put(handle, bytes, size, at); }

static int cut(int handle, off_t size) {
    int (*real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, "ftruncate64");
    GUARDED(handle, "ftruncate", real(handle, size))
    int result = real(handle, size);
    if (!result) note('t', inode(handle), size, path, "", 0);
    DONE(result)
}
int ftruncate64(int handle, off_t size) { return cut(handle, size); }
int ftruncate(int handle, off_t size) { return cut(handle, size); }

static int settle(int handle, int (*real)(int), const char *call) {
    GUARDED(handle, call, real(handle))
    int result = real(handle);
    struct stat about;
    if (!result && !fstat(handle, &about)) note(S_ISDIR(about.st_mode) ? 'd' : 's', about.st_ino, 0, path, "", 0);
    DONE(result)
}
int fsync(int handle) {
    char path[PATH_MAX];
    begin();
    /* A folder that is the root itself counts, too. */
    if (out >= 0 && !counts(handle, path) && root_length && !strncmp(path, root, root_length - 1) && !path[root_length - 1]) {
        int result = REAL(fsync)(handle);
        pthread_mutex_lock(&lock);
        if (!result) note('d', inode(handle), 0, path, "", 0);
        pthread_mutex_unlock(&lock);
        return result;
    }
    return settle(handle, REAL(fsync), "fsync");
}
int fdatasync(int handle) { return settle(handle, REAL(fdatasync), "fdatasync"); }

/* Names: the path that a name in a folder is, if it counts. */
static int named(int folder, const char *name, char *path) {
    char where[PATH_MAX], link[64];
    begin();
    if (!root_length || out < 0) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        if (folder == AT_FDCWD) {
            if (!getcwd(where, sizeof where)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, where, sizeof where - 1);
            if (length <= 0) return 0;
            where[length] = 0;
        }
        snprintf(path, PATH_MAX, "%.2000s/%.2000s", where, name);
    }
    return !strncmp(path, root, root_length);
}

static int moved(int result, int from, const char *old, int to, const char *name) {
    char before[PATH_MAX], after[PATH_MAX];
    struct stat about;
    int kept = errno;
    if (!result && named(from, old, before) && named(to, name, after) && !stat(after, &about)) {
        pthread_mutex_lock(&lock);
        note('m', about.st_ino, 0, before, after, strlen(after));
        pthread_mutex_unlock(&lock);
    }
    errno = kept;
    return result;
}
int rename(const char *old, const char *name) { return moved(REAL(rename)(old, name), AT_FDCWD, old, AT_FDCWD, name); }
int renameat(int from, const char *old, int to, const char *name) {
    return moved(REAL(renameat)(from, old, to, name), from, old, to, name);
}

static int dropped(int result, int folder, const char *name) {
    char path[PATH_MAX];
    int kept = errno;
    if (!result && named(folder, name, path)) {
        pthread_mutex_lock(&lock);
        note('u', 0, 0, path, "", 0);
        pthread_mutex_unlock(&lock);
    }
    errno = kept;
    return result;
}
int unlink(const char *name) { return dropped(REAL(unlink)(name), AT_FDCWD, name); }
int unlinkat(int folder, const char *name, int flags) { return dropped(REAL(unlinkat)(folder, name, flags), folder, name); }
